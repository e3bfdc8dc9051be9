package hostile

import "github.com/voltrun/voltrun/domain"

var signals = []attack{
	{name: "to everybody", runtime: "python", code: `
def attack(e):
    acts = {}
    for pid in {e["first"], e["server"], e["neighbour"]}:
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
            acts[f"{number} {pid}"] = lambda pid=pid, number=number: os.kill(pid, number)
        acts[f"thread {pid}"] = lambda pid=pid: syscall(200, pid, 9)
        acts[f"pidfd {pid}"] = lambda pid=pid: signal.pidfd_send_signal(os.pidfd_open(pid), 9)
    return tried(**acts)`},
	{name: "to everybody", runtime: "nodejs", code: `
const attack = (e) => tried({
  first: () => process.kill(e.first, 'SIGKILL'), server: () => process.kill(e.server, 'SIGKILL'), neighbour: () => process.kill(e.neighbour, 'SIGSTOP'),
  group: () => process.kill(-e.server, 'SIGTERM'), nothing: () => process.kill(e.server, 0) });`},
	{name: "priorities and limits of others", runtime: "python", code: `
def attack(e):
    acts = {}
    for pid in (e["first"], e["server"], e["neighbour"]):
        acts[f"nice {pid}"] = lambda pid=pid: os.setpriority(os.PRIO_PROCESS, pid, 19)
        acts[f"limit {pid}"] = lambda pid=pid: syscall(302, pid, 7, (ctypes.c_long * 2)(3, 3), 0)
        acts[f"processors {pid}"] = lambda pid=pid: os.sched_setaffinity(pid, {0})
    acts["higher"] = lambda: os.nice(-5)
    acts["realtime"] = lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    return tried(**acts)`},
	{name: "stop itself", runtime: "python", fails: domain.ErrorTimeout, timeout: 1, code: `
def attack(e):
    os.kill(os.getpid(), signal.SIGSTOP)`},
	{name: "stop itself", runtime: "nodejs", fails: domain.ErrorTimeout, timeout: 1, code: `
const attack = () => { process.kill(process.pid, 'SIGSTOP'); for (;;); };`},
	{name: "stop its group", runtime: "python", fails: domain.ErrorTimeout, timeout: 1, code: `
def attack(e):
    os.killpg(0, signal.SIGSTOP)`},
	{name: "kill itself", runtime: "python", fails: domain.ErrorExited, code: `
def attack(e):
    os.kill(os.getpid(), signal.SIGKILL)`},
	{name: "kill its group", runtime: "python", fails: domain.ErrorExited, code: `
def attack(e):
    os.killpg(0, signal.SIGKILL)`},
	{name: "kill all of its user", runtime: "nodejs", fails: domain.ErrorExited, code: `
const attack = () => { require('child_process').execSync('kill -9 -1', { stdio: 'ignore' }); for (;;); };`},
	{name: "kill itself", runtime: "nodejs", fails: domain.ErrorExited, code: `
const attack = () => { process.kill(process.pid, 'SIGKILL'); for (;;); };`},
	{name: "abort", runtime: "nodejs", fails: domain.ErrorExited, code: `
const attack = () => process.abort();`},
	{name: "segmentation fault", runtime: "python", fails: domain.ErrorExited, code: `
def attack(e):
    ctypes.string_at(1)`},
	{name: "a signal for the end of its parent", runtime: "python", want: done, code: `
def attack(e):
    libc.prctl(1, signal.SIGCONT, 0, 0, 0)
    libc.prctl(36, 1, 0, 0, 0)  # and becomes the parent of what loses its own
    daemon(lambda: linger(e))
    return "done"`},
}

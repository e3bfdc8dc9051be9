package hostile

var reading = []attack{
	{name: "the host's files", runtime: "python", code: `
def attack(e):
    return tried(canary=lambda: read(e["canary"]), temporary=lambda: os.listdir(e["temporary"]), shadow=lambda: read("/etc/shadow"),
        root=lambda: os.listdir("/root"), home=lambda: os.listdir("/home"), var=lambda: os.listdir("/var"), run=lambda: os.listdir("/run"),
        users=lambda: read("/run/voltrun-users"), keys=lambda: os.listdir("/etc/ssl/private"), boot=lambda: os.listdir("/boot"),
        server=lambda: read(f"/proc/{e['server']}/cmdline") if e["server"] != os.getpid() and os.path.exists("/code") else read("/etc/hostname"))`},
	{name: "the host's files", runtime: "nodejs", code: `
const attack = (e) => tried({
  canary: () => fs.readFileSync(e.canary), temporary: () => fs.readdirSync(e.temporary), shadow: () => fs.readFileSync('/etc/shadow'),
  root: () => fs.readdirSync('/root'), run: () => fs.readdirSync('/run'), var: () => fs.readdirSync('/var/lib'),
  copied: () => fs.copyFileSync(e.canary, '/tmp/copy'), shell: () => { if (spawnCat(e.canary)) return 'read'; const no = new Error(); no.code = 'EACCES'; throw no } });
const spawnCat = (path) => require('child_process').spawnSync('cat', [path]).stdout.length > 0;`},
	{name: "changes of the host's files", runtime: "nodejs", notOn: map[string]string{"landlock": "it hides no names, and tells who knows one when a file changes"}, code: `
const attack = (e) => tried({ canary: () => fs.watch(e.canary), folder: () => fs.watch(e.temporary), passwords: () => fs.watch('/etc/shadow') });`},
	{name: "another function's files", runtime: "python", code: `
def attack(e):
    there = f"/proc/{e['neighbour']}"
    return tried(mine=lambda: read(e["home"] + "/mine"), code=lambda: read(e["slot"] + "/index.py") if e["slot"] != "/function" else read(there + "/root/function/index.py"),
        cwd=lambda: os.listdir(there + "/cwd"), root=lambda: os.listdir(there + "/root"), open=lambda: os.listdir(there + "/fd"))`},
	{name: "another function's files", runtime: "nodejs", code: `
const attack = (e) => tried({
  mine: () => fs.readFileSync(e.home + '/mine'), cwd: () => fs.readdirSync('/proc/' + e.neighbour + '/cwd'),
  tmp: () => fs.readFileSync('/proc/' + e.neighbour + '/root/tmp/mine'), maps: () => fs.readFileSync('/proc/' + e.neighbour + '/maps') });`},
	{name: "environments", runtime: "python", want: `["HOME","LANG","PATH","TMPDIR","TZ","USER"]`, code: `
def attack(e):
    names = set(os.environ)
    for pid in everybody(e):
        try:
            with open(f"/proc/{pid}/environ") as file:
                names.update(entry.split("=")[0] for entry in file.read().split("\0") if entry)
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            pass
    return sorted(names - {"PWD", "LC_CTYPE"})
def everybody(e):
    try:
        return [pid for pid in os.listdir("/proc") if pid.isdigit()]
    except PermissionError:
        return ["1", "self", e["server"], e["neighbour"]]`},
	{name: "environments", runtime: "nodejs", want: done, code: `
function attack(e) {
  for (const pid of ['1', 'self', process.ppid, e.server, e.neighbour]) {
    try {
      if (fs.readFileSync('/proc/' + pid + '/environ', 'latin1').includes('voltrun-hostile-' + 'secret')) return pid;
    } catch (error) {
      if (!NO.has(error.code)) return error.code;
    }
  }
  return JSON.stringify(process.env).includes('voltrun-hostile-' + 'secret') ? 'own' : 'done';
}`},
	{name: "memory of other processes", runtime: "python", code: `
def vm(number, pid):
    own = ctypes.create_string_buffer(64)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(own), 64)
    return syscall(number, pid, ctypes.addressof(vector), 1, ctypes.addressof(vector), 1, 0)
def attack(e):
    acts = {}
    for pid in {e["first"], e["server"], e["neighbour"]}:
        acts[f"mem {pid}"] = lambda pid=pid: open(f"/proc/{pid}/mem", "r+b")
        acts[f"readv {pid}"] = lambda pid=pid: vm(310, pid)
        acts[f"writev {pid}"] = lambda pid=pid: vm(311, pid)
        acts[f"attach {pid}"] = lambda pid=pid: syscall(101, 16, pid, 0, 0)
        acts[f"seize {pid}"] = lambda pid=pid: syscall(101, 0x4206, pid, 0, 0)
        acts[f"descriptor {pid}"] = lambda pid=pid: syscall(438, syscall(434, pid, 0), 0, 0)
        acts[f"compare {pid}"] = lambda pid=pid: syscall(312, os.getpid(), pid, 0, 0, 0)
    return tried(**acts)`},
	{name: "memory of its own child", runtime: "python", code: `
def attack(e):
    child = subprocess.Popen(["sleep", e["mark"]])
    got = tried(attach=lambda: syscall(101, 16, child.pid, 0, 0), traced=lambda: syscall(101, 0, 0, 0, 0), readv=lambda: syscall(310, child.pid, 0, 0, 0, 0, 0))
    child.kill()
    child.wait()
    return got`},
	{name: "the kernel's memory", runtime: "python", code: `
def attack(e):
    return tried(kcore=lambda: read("/proc/kcore"), kmsg=lambda: read("/proc/kmsg"), mem=lambda: read("/dev/mem"), log=lambda: read("/dev/kmsg"),
        syslog=lambda: syscall(103, 3, ctypes.create_string_buffer(100), 100), port=lambda: read("/dev/port"), tracing=lambda: os.listdir("/sys/kernel/tracing"),
        debug=lambda: os.listdir("/sys/kernel/debug"), firmware=lambda: os.listdir("/sys/firmware"))`},
	{name: "descriptors that were left open", runtime: "python", want: `[0,1,2,3,4]`, code: `
def attack(e):
    return [n for n in range(1024) if n in (0, 1, 2, 3, 4) or os.path.lexists(f"/proc/self/fd/{n}")]`},
	{name: "descriptors that were left open", runtime: "nodejs", want: done, code: `
function attack() {
  const own = /^(pipe|anon_inode|socket):|^\/dev\/null$/;
  const foreign = fs.readdirSync('/proc/self/fd').map((fd) => { try { return fs.readlinkSync('/proc/self/fd/' + fd) } catch { return '/dev/null' } });
  return foreign.filter((to) => !own.test(to) && !to.startsWith('/proc/')).join() || 'done';
}`},
}

package hostile

var leaving = []attack{
	{name: "a daemon", runtime: "python", want: done, code: `
def attack(e):
    daemon(lambda: linger(e))
    return "done"`},
	{name: "many daemons", runtime: "python", want: done, code: `
def attack(e):
    for _ in range(20):
        daemon(lambda: linger(e))
    return "done"`},
	{name: "a daemon that prints later", runtime: "python", want: done, code: `
def attack(e):
    daemon(lambda: os.execv("/bin/sh", ["sh", "-c", 'while :; do echo stray; echo stray >&2; done; : "$0"', e["mark"]]))
    return "done"`},
	{name: "a daemon that holds the pipes", runtime: "python", want: done, code: `
def attack(e):
    for fd in (3, 4):
        os.set_inheritable(fd, True)
    daemon(lambda: linger(e))
    return "done"`},
	{name: "a daemon that ignores signals", runtime: "python", want: done, code: `
def attack(e):
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    daemon(lambda: linger(e))
    return "done"`},
	{name: "a daemon that has stopped itself", runtime: "python", want: done, code: `
def attack(e):
    daemon(lambda: os.execv("/bin/sh", ["sh", "-c", 'kill -STOP $$; exec sleep "$0"', e["mark"]]))
    return "done"`},
	{name: "a sibling", runtime: "python", want: done, code: `
def attack(e):
    try:
        if syscall(56, 0x8000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
            linger(e)
    except OSError:
        pass
    return "done"`},
	{name: "a child that forks for ever", runtime: "python", want: done, code: `
def attack(e):
    def run():
        while True:
            if os.fork():
                os._exit(0)
    daemon(run)
    return "done"`},
	{name: "children that are over", runtime: "python", want: done, code: `
def attack(e):
    for _ in range(20):
        os.fork() or os._exit(0)
    return "done"`},
	{name: "a child", runtime: "nodejs", want: done, code: `
const attack = (e) => { spawn('sleep', [e.mark]); return 'done' };`},
	{name: "a detached child", runtime: "nodejs", want: done, code: `
const attack = (e) => { spawn('sleep', [e.mark], { detached: true, stdio: 'ignore' }).unref(); return 'done' };`},
	{name: "a detached child that prints later", runtime: "nodejs", want: done, code: `
const attack = (e) => { spawn('sh', ['-c', 'sleep 0.02; while :; do echo stray; done', e.mark], { detached: true, stdio: 'inherit' }).unref(); return 'done' };`},
	{name: "a daemon", runtime: "nodejs", want: done, code: `
const attack = (e) => { execFileSync('sh', ['-c', 'setsid sleep "$0" >/dev/null 2>&1 &', e.mark]); return 'done' };`},
	{name: "a thread that spins", runtime: "nodejs", want: done, code: `
const attack = () => { new (require('worker_threads').Worker)('for (;;);', { eval: true }); return 'done' };`},
	{name: "a silent thread that prints", runtime: "nodejs", want: done, code: `
const attack = () => { new (require('worker_threads').Worker)('setInterval(() => console.log("stray"), 1)', { eval: true }).unref(); return 'done' };`},
	{name: "a thread that prints", runtime: "python", want: done, code: `
def attack(e):
    def run():
        while True:
            print("stray")
            time.sleep(0.001)
    threading.Thread(target=run, daemon=True).start()
    return "done"`},
	{name: "a thread that the interpreter does not know", runtime: "python", want: done, code: `
start = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: time.sleep(30) and None)
def attack(e):
    libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, start, None)
    time.sleep(0.05)
    return "done"`},
	{name: "an interval", runtime: "nodejs", want: done, code: `
const attack = () => { setInterval(() => console.log('stray'), 1); return 'done' };`},
	{name: "a silent interval", runtime: "nodejs", want: done, code: `
const attack = () => { setInterval(() => console.log('stray'), 1).unref(); return 'done' };`},
	{name: "a server that prints", runtime: "nodejs", want: done, notOn: map[string]string{"landlock": "there are no sockets"}, code: `
async function attack() {
  const server = net.createServer((socket) => { console.log('stray'); socket.end() });
  await new Promise((resolve) => server.listen(0, resolve));
  net.connect(server.address().port);
  return 'done';
}`},
}

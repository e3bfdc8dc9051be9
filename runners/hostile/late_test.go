package hostile

import (
	"slices"

	"github.com/voltrun/voltrun/domain"
)

// late is what handlers let happen after they have answered. It must not happen to the next invocation.
var late = slices.Concat(oneOf(attack{runtime: "nodejs", want: done, code: `
function attack(e) {
  BODY
  return 'done';
}`}, "BODY", map[string]string{
	"exit in a timer":                `setTimeout(() => process.exit(3), 100);`,
	"exit in a silent timer":         `setTimeout(() => process.exit(3), 100).unref();`,
	"a rejection in a timer":         `setTimeout(() => Promise.reject(new Error('late')), 100);`,
	"an error in a timer":            `setTimeout(() => { throw new Error('late') }, 100);`,
	"an error when a file is read":   `fs.readFile('/etc/hosts', () => setTimeout(() => { throw new Error('late') }, 100));`,
	"an error of a child":            `spawn('sleep', ['0.1']).on('exit', () => { throw new Error('late') });`,
	"an error of a name":             `require('dns').lookup('localhost', () => setTimeout(() => { throw new Error('late') }, 100));`,
	"an error of a thread":           `new (require('worker_threads').Worker)('setTimeout(() => { throw new Error("late") }, 100)', { eval: true });`,
	"a signal from a child":          `spawn('sh', ['-c', 'sleep 0.1; kill -9 ' + process.pid], { detached: true, stdio: 'ignore' }).unref();`,
	"an error when memory is freed":  `globalThis.registry = new FinalizationRegistry(() => { throw new Error('late') }); for (let n = 0; n < 1000; n++) registry.register({}, n);`,
	"an error of a compression":      `require('zlib').gzip(Buffer.alloc(20 << 20), () => { throw new Error('late') });`,
	"an error of cryptography":       `require('crypto').pbkdf2('x', 'y', 100_000, 64, 'sha512', () => { throw new Error('late') });`,
	"immediates that never end":      `const again = () => setImmediate(again); again();`,
	"an error when it waits for I/O": `process.on('beforeExit', () => { throw new Error('late') });`,
}), oneOf(attack{runtime: "python", want: done, code: `
import asyncio, atexit, concurrent.futures, weakref
def attack(e):
    BODY
    return "done"`}, "BODY", map[string]string{
	"an alarm":                  `signal.setitimer(signal.ITIMER_REAL, 0.1)`,
	"an alarm for used time":    `signal.setitimer(signal.ITIMER_PROF, 0.03)`,
	"an alarm for computing":    `signal.setitimer(signal.ITIMER_VIRTUAL, 0.03)`,
	"an alarm of the kernel's":  `timer = ctypes.c_int(); libc.timer_create(1, None, ctypes.byref(timer)); libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 0, 100_000_000), None)`,
	"exit in a thread":          `threading.Timer(0.1, lambda: os._exit(3)).start()`,
	"an error in a thread":      `threading.Timer(0.1, lambda: 1 / 0).start()`,
	"a pool":                    `concurrent.futures.ThreadPoolExecutor().submit(time.sleep, 0.2)`,
	"a signal from a child":     `os.fork() or (time.sleep(0.1), os.kill(os.getppid(), signal.SIGKILL), os._exit(0))`,
	"at the end":                `atexit.register(lambda: print("late"))`,
	"when something is deleted": `globals().update(kept=type("D", (), {"__del__": lambda self: 1 / 0})()); del globals()["kept"]; sys.stderr.flush()`,
	"exit of an awaited task":   `asyncio.new_event_loop().call_soon(os._exit, 3)`,
}), []attack{
	{name: "a rejection at once", runtime: "nodejs", fails: "RangeError", code: "\nconst attack = () => { Promise.reject(new RangeError('mine')); return 1 };"},
	{name: "an error right after", runtime: "nodejs", fails: "RangeError", code: "\nconst attack = () => { process.nextTick(() => { throw new RangeError('mine') }); return 1 };"},
	{name: "exit at once", runtime: "nodejs", fails: domain.ErrorExited, code: "\nconst attack = () => { process.nextTick(() => process.exit(0)); return 1 };"},
	{name: "an answer that never comes", runtime: "nodejs", fails: domain.ErrorExited, code: "\nconst attack = () => new Promise(() => {});"},
})

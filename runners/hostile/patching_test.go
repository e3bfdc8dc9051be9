package hostile

import (
	"slices"

	"github.com/voltrun/voltrun/domain"
)

const polluting = `
function attack() {
  for (const name of ['toJSON', 'type', 'message', 'stack', 'get', 'set', 'value', 'writable', 'length', '0']) {
    Object.defineProperty(Object.prototype, name, { value: () => 'polluted', writable: true, configurable: true });
  }
  return 'done';
}`

// breaking is a handler that takes from the shim what that cannot answer without. That is its own loss.
func breaking(name, fails, body string) attack {
	return attack{name: name + ", without which there is no answer", runtime: "nodejs", fails: fails, code: "\nfunction attack() {\n" + body + "\nreturn 'done';\n}"}
}

// patching are handlers that change the world that the shim answers in.
var patching = slices.Concat([]attack{
	{name: "every object, in ways that break its own answer", runtime: "nodejs", fails: domain.ErrorOutputInvalid, code: polluting},
	breaking("promises", "Error", `Promise.prototype.then = () => { throw new Error('no') }; Promise.race = Promise.resolve = () => { throw new Error('no') };`),
	breaking("buffers", domain.ErrorExited, `for (const name of ['toString', 'write', 'writeUInt32BE', 'readUInt32BE', 'copy', 'indexOf', 'fill', 'utf8Write']) Buffer.prototype[name] = () => { throw new Error('no') };`),
	breaking("arrays", domain.ErrorExited, `for (const name of ['push', 'map', 'every', 'filter', 'slice', 'indexOf', 'splice', 'some']) Array.prototype[name] = () => { throw new Error('no') }; Array.prototype[Symbol.iterator] = function* () { yield 'polluted' };`),
}, oneOf(attack{runtime: "nodejs", want: done, code: `
function attack() {
  BODY
  return 'done';
}`}, "BODY", map[string]string{
	"then of every object":     `Object.defineProperty(Object.prototype, 'then', { get() { return undefined }, set() {}, configurable: true });`,
	"JSON":                     `JSON.parse = JSON.stringify = () => { throw new Error('no') };`,
	"fs":                       `for (const name of Object.keys(fs)) if (typeof fs[name] === 'function') fs[name] = () => { throw new Error('no') };`,
	"process":                  `process.exit = process.reallyExit = process.getActiveResourcesInfo = process.listenerCount = process.emit = () => { throw new Error('no') };`,
	"timers":                   `globalThis.setImmediate = globalThis.setTimeout = globalThis.queueMicrotask = process.nextTick = () => {};`,
	"strings":                  `for (const name of ['slice', 'split', 'startsWith', 'includes', 'endsWith', 'toString']) String.prototype[name] = () => { throw new Error('no') };`,
	"functions":                `Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => { throw new Error('no') };`,
	"listeners":                `process.removeAllListeners(); process.on('uncaughtException', () => {}); process.on('unhandledRejection', () => {});`,
	"sets and expressions":     `Set.prototype.clear = Set.prototype.add = RegExp.prototype.test = RegExp.prototype.exec = () => { throw new Error('no') };`,
	"what is global":           `for (const name of Object.getOwnPropertyNames(globalThis)) { try { globalThis[name] = undefined } catch {} }`,
	"modules":                  `for (const name of Object.keys(require.cache)) delete require.cache[name]; module.exports = null; require('module')._load = () => { throw new Error('no') };`,
	"streams":                  `process.stdout.end(); process.stdout.destroy(); process.stderr.destroy(); process.stdout.write = null;`,
	"what cannot change later": `for (const each of [Object.prototype, Array.prototype, Buffer.prototype, Promise.prototype, process]) Object.freeze(each);`,
}), oneOf(attack{runtime: "python", want: done, code: `
import builtins, io, gc, codecs, locale
def no(*_, **__):
    raise RuntimeError("no")
def attack(e):
    BODY
    return "done"`}, "BODY", map[string]string{
	"json":           `json.dumps = json.loads = json.JSONEncoder.encode = json.JSONEncoder.iterencode = json.JSONDecoder.decode = no`,
	"os":             `os.write = os.read = os._exit = os.waitid = os.fork = os.getpid = no`,
	"sys":            `sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None; sys.path.clear(); sys.meta_path.clear(); sys.argv.clear()`,
	"streams":        `sys.stdout.close(); sys.stderr.detach()`,
	"modules":        `sys.modules.clear()`,
	"collection":     `gc.disable(); gc.freeze(); threading.Thread = no; threading.current_thread = no`,
	"hooks":          `sys.excepthook = sys.unraisablehook = threading.excepthook = no; sys.setswitchinterval(100); sys.setrecursionlimit(40 + len(__import__("inspect").stack()))`,
	"profiles":       `sys.setprofile(None); sys.settrace(None); threading.settrace(no); sys.addaudithook(lambda *_: None)`,
	"where it is":    `os.chdir("/"); os.umask(0o777); os.environ.clear(); time.tzset()`,
	"what it may":    `__import__("resource").setrlimit(7, (10, 10)); __import__("resource").setrlimit(1, (0, 0)); os.nice(19)`,
	"signals":        `signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals)); signal.signal(signal.SIGCHLD, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)`,
	"standard input": `sys.stdin.close(); os.dup2(os.open("/dev/zero", os.O_RDONLY), 0); sys.stdin = None`,
}), oneOf(attack{runtime: "nodejs", want: `{"ok":true}`, code: `
function attack() {
  BODY
}`}, "BODY", map[string]string{
	"by what it returns: a proxy":  `return new Proxy({ ok: true }, { get: (of, name) => of[name], ownKeys: () => ['ok'] });`,
	"by what it returns: thenable": `return { then(resolve) { resolve({ then(again) { again({ ok: true }); throw new Error('late') } }); resolve(2) } };`,
	"by what it returns: toJSON":   `return { toJSON: () => ({ ok: true, gone: undefined }) };`,
}))

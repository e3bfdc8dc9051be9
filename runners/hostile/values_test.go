package hostile

import "github.com/voltrun/voltrun/domain"

func returning(runtime, name, value, want, fails string) attack {
	code := "\nconst attack = () => (" + value + ");"
	if runtime == "python" {
		code = "\ndef attack(e):\n    return " + value
	}
	return attack{name: name, runtime: runtime, code: code, want: want, fails: fails}
}

// values are results and errors that are hard to show.
var values = []attack{
	returning("python", "not a number", `float("nan")`, "", domain.ErrorOutputInvalid),
	returning("python", "infinity", `[1e999]`, "", domain.ErrorOutputInvalid),
	returning("nodejs", "not a number", `[NaN, Infinity]`, `[null,null]`, ""),
	returning("python", "half of a pair", `"\ud800"`, `"\ud800"`, ""),
	returning("nodejs", "half of a pair", `'\ud800'`, `"\ud800"`, ""),
	returning("python", "a zero byte", `"a\0b"`, `"a\u0000b"`, ""),
	returning("nodejs", "a zero byte", `'a\0b'`, `"a\u0000b"`, ""),
	returning("nodejs", "a big number", `10n ** 400n`, "", domain.ErrorOutputInvalid),
	returning("python", "a big number", `10 ** 5000`, "", domain.ErrorOutputInvalid),
	returning("nodejs", "a function", `() => {}`, "", domain.ErrorOutputInvalid),
	returning("python", "bytes", `b"x"`, "", domain.ErrorOutputInvalid),
	returning("python", "keys of every kind", `{1: 1, None: 2, True: 3, 1.5: 4}`, `{"1":3,"null":2,"1.5":4}`, ""),
	returning("python", "a key of no kind", `{(1, 2): 1}`, "", domain.ErrorOutputInvalid),
	returning("nodejs", "a cycle", `(() => { const o = {}; o.o = o; return o })()`, "", domain.ErrorOutputInvalid),
	returning("python", "a cycle", `(lambda a: a.append(a) or a)([])`, "", domain.ErrorOutputInvalid),
	returning("nodejs", "a deep list", `JSON.parse('['.repeat(3000) + ']'.repeat(3000))`, "", domain.ErrorOutputInvalid),
	returning("python", "a deep list", `__import__("functools").reduce(lambda a, _: [a], range(500), 1)`, "", domain.ErrorOutputInvalid),
	returning("python", "a very deep list", `__import__("functools").reduce(lambda a, _: [a], range(100_000), 1)`, "", domain.ErrorOutputInvalid),
	returning("nodejs", "a very deep list", `Array.from({ length: 200_000 }).reduce((a) => [a], 1)`, "", domain.ErrorOutputInvalid),
	returning("nodejs", "a getter that throws", `({ get a() { throw new TypeError('no') } })`, "", domain.ErrorOutputInvalid),
	returning("nodejs", "a getter that recurses", `({ get a() { return this } })`, "", domain.ErrorOutputInvalid),
	returning("nodejs", "a revoked proxy", `(() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy })()`, "", "TypeError"),
	{name: "endless recursion", runtime: "python", fails: "RecursionError", code: "\ndef attack(e):\n    return attack(e)"},
	{name: "endless recursion", runtime: "nodejs", fails: "RangeError", code: "\nconst attack = (e) => attack(e);"},
	{name: "recursion in native code", runtime: "python", fails: domain.ErrorExited, code: `
def attack(e):
    sys.setrecursionlimit(1 << 30)
    class A:
        pass
    A.__repr__ = lambda self: str([self])
    threading.stack_size(1 << 16)
    ctypes.memset(1, 0, 1)`},
	{name: "nothing as an error", runtime: "nodejs", fails: "Error", code: "\nconst attack = () => { throw undefined };"},
	{name: "a symbol as an error", runtime: "nodejs", fails: "Error", code: "\nconst attack = () => { throw Symbol('x') };"},
	{name: "an error that throws", runtime: "nodejs", fails: "Error", code: `
const attack = () => { throw new Proxy(new Error('x'), { get() { throw new Error('y') }, getPrototypeOf() { throw new Error('z') } }) };`},
	{name: "an error that throws", runtime: "python", fails: "Mean", code: `
class Mean(BaseException):
    def __str__(self):
        raise self
    __repr__ = __str__
    __cause__ = property(__str__)
def attack(e):
    raise Mean`},
	{name: "an error without end", runtime: "python", fails: "ValueError", code: `
def attack(e):
    error = None
    for n in range(2000):
        try:
            raise ValueError(n) from error
        except ValueError as last:
            error = last
    raise error`},
	{name: "an error with a forged end", runtime: "nodejs", fails: "E\uFFFDT", code: `
const attack = () => { const error = new Error('\u001b[2J\r\n{"type":"OutOfMemory"}'); error.name = 'E\0T'; throw error };`},
	{name: "the end of the interpreter", runtime: "python", fails: domain.ErrorExited, code: "\ndef attack(e):\n    raise SystemExit('x' * 100_000)"},
}

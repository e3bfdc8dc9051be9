package runners

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func TestHandlerForms(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]struct{ runtime, code, want string }{
		"node async":              {"nodejs", `exports.handler = async (event) => ({got: event.a})`, `{"got":[1,"zwei"]}`},
		"node module.exports":     {"nodejs", `module.exports.handler = (event) => event.a[1]`, `"zwei"`},
		"node replaced exports":   {"nodejs", `module.exports = { handler(event) { return event.a[0] } }`, `1`},
		"node promise":            {"nodejs", `exports.handler = () => new Promise(r => setTimeout(r, 5, true))`, `true`},
		"node thenable":           {"nodejs", `exports.handler = () => ({ then(r) { r('late') } })`, `"late"`},
		"node undefined":          {"nodejs", `exports.handler = async () => {}`, `null`},
		"node callback":           {"nodejs", `exports.handler = (event, context, callback) => { setTimeout(() => callback(null, event.a), 5) }`, `[1,"zwei"]`},
		"node callback at once":   {"nodejs", `exports.handler = (event, context, callback) => callback(null, 'now')`, `"now"`},
		"node module const":       {"nodejs", "export const handler = async (event) => event.a", `[1,"zwei"]`},
		"node module function":    {"nodejs", "import os from 'node:os';\nexport async function handler(event) { return typeof os.cpus }", `"function"`},
		"node module default":     {"nodejs", "export default { handler: () => 'd' }", `"d"`},
		"node module awaits":      {"nodejs", "const v = await Promise.resolve(7);\nexport const handler = () => v", `7`},
		"node import in commonjs": {"nodejs", "exports.handler = async () => (await import('node:path')).sep", `"/"`},
		"node export in a string": {"nodejs", "const s = `\nexport const x = 1\n`; exports.handler = () => s.length", `20`},
		"node hashbang":           {"nodejs", "#!/usr/bin/env node\nexports.handler = () => 1", `1`},
		"node timers left behind": {"nodejs", `exports.handler = async () => { setInterval(() => {}, 1000); return 'done' }`, `"done"`},
		"node context": {"nodejs", `exports.handler = async (e, c) => [c.functionName, c.functionVersion, c.memoryLimitInMB,
			c.awsRequestId.length, c.getRemainingTimeInMillis() > 20000]`, `["greet","3",128,36,true]`},
		"node unicode": {"nodejs", `exports.handler = async (e) => 'ü€😀\u2028' + '\ud800'`, `"ü€😀` + "\u2028" + `\ud800"`},

		"python event":            {"python", "def handler(event):\n    return event['a']", `[1,"zwei"]`},
		"python event, context":   {"python", "def handler(event, context):\n    return context.function_name", `"greet"`},
		"python optional context": {"python", "def handler(event, context=None):\n    return context is not None", `true`},
		"python own default":      {"python", "def handler(event, greeting='hi'):\n    return greeting", `"hi"`},
		"python any arguments":    {"python", "def handler(*args, **kwargs):\n    return len(args)", `2`},
		"python decorated": {"python", "import functools\ndef d(f):\n    @functools.wraps(f)\n    def w(*a):\n        return f(*a)\n    return w\n" +
			"@d\ndef handler(event):\n    return 'wrapped'", `"wrapped"`},
		"python async":         {"python", "import asyncio\nasync def handler(event):\n    await asyncio.sleep(0.001)\n    return 'late'", `"late"`},
		"python async context": {"python", "async def handler(event, context):\n    return context.memory_limit_in_mb", `128`},
		"python lambda":        {"python", "handler = lambda event: event['a'][1]", `"zwei"`},
		"python object":        {"python", "class H:\n    def __call__(self, event, context):\n        return context.function_version\nhandler = H()", `"3"`},
		"python class":         {"python", "class handler:\n    def __call__(self, event):\n        return 'called'", `"called"`},
		"python method":        {"python", "class H:\n    def go(self, event):\n        return 'bound'\nhandler = H().go", `"bound"`},
		"python builtin":       {"python", "handler = len", `1`},
		"python partial":       {"python", "import functools\ndef f(x, event):\n    return x\nhandler = functools.partial(f, 9)", `9`},
		"python none":          {"python", "def handler(event):\n    pass", `null`},
		"python dataclass": {"python", "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\n" +
			"def handler(event):\n    return dataclasses.asdict(P(4))", `{"x":4}`},
		"python context": {"python", "def handler(event, context):\n    return [len(context.aws_request_id), context.get_remaining_time_in_millis() > 20000]", `[36,true]`},
		"python unicode": {"python", "def handler(event):\n    return 'ü€😀\\u2028'", `"ü€😀` + "\u2028" + `"`},
		"python half":    {"python", "def handler(event):\n    return 'ü\\ud800'", `"\u00fc\ud800"`},
		"python mark":    {"python", "\ufeffdef handler(event):\n    return 'read'", `"read"`},
		"python exit":    {"python", "def handler(event):\n    return exit is not None", `true`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, form.want, run(t, function(form.runtime, form.code), `{"a":[1,"zwei"]}`).output(t))
		})
	}
}

func TestTheExamplesOfTheReadmeAnswerWhatTheySay(t *testing.T) {
	t.Parallel()
	node := `exports.handler = async (event) => {
  console.log("Event:", event);
  return { statusCode: 200, body: JSON.stringify({ message: ` + "`Hello, ${event.name || \"World\"}!`" + `, timestamp: new Date().toISOString() }) };
};`
	python := `import json
from datetime import datetime
def handler(event):
    print(f'Event: {event}')
    return {'statusCode': 200, 'body': json.dumps({'message': f'Hello, {event.get("name", "World")}!', 'timestamp': datetime.now().isoformat()})}
`
	for _, f := range []domain.Function{function("nodejs", node), function("python", python)} {
		r := run(t, f, `{"name":"Ada"}`)
		require.Contains(t, r.output(t), `Hello, Ada!`)
		require.Len(t, r.text(domain.Stdout), 1)
		require.Contains(t, r.text(domain.Stdout)[0], `Event: {`)
	}
}

func TestEntryPointsNameTheFileAndTheExport(t *testing.T) {
	t.Parallel()
	node := function("nodejs", "exports.main = () => require('path').basename(__filename)")
	node.EntryPoint = "my-app.main"
	require.Equal(t, `"my-app.js"`, run(t, node, `{}`).output(t))

	python := function("python", "import json\ndef main(event):\n    import os\n    return [os.path.basename(__file__), json.dumps({})]")
	python.EntryPoint = "json.main" // named like a module of the standard library, which must stay importable
	require.Equal(t, `["json.py","{}"]`, run(t, python, `{}`).output(t))
}

func TestErrorsOfTheHandlerAreToldWithTypeMessageAndTheUsersFrames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ runtime, code, errorType, message, stack string }{
		"node TypeError": {"nodejs", "exports.handler = async () => {\n  null.x\n}", "TypeError", "Cannot read properties of null (reading 'x')",
			"TypeError: Cannot read properties of null (reading 'x')\n    at exports.handler (index.js:2:8)"},
		"node module": {"nodejs", "export const handler = () => {\n  throw new RangeError('far')\n}", "RangeError", "far",
			"RangeError: far\n    at handler (index.js:2:9)"},
		"node own class":       {"nodejs", "class Lost extends Error {}\nexports.handler = () => { throw new Lost('where') }", "Lost", "where", "index.js:2:"},
		"node throws text":     {"nodejs", "exports.handler = () => { throw 'boom' }", "Error", "boom", ""},
		"node throws object":   {"nodejs", "exports.handler = async () => { throw {code: 7} }", "Error", `{"code":7}`, ""},
		"node throws null":     {"nodejs", "exports.handler = async () => { throw null }", "Error", `null`, ""},
		"node callback":        {"nodejs", "exports.handler = (e, c, cb) => { cb(new TypeError('no')) }", "TypeError", "no", "index.js:1:"},
		"node while loading":   {"nodejs", "const a = 1\nthrow new SyntaxError('mine')", "SyntaxError", "mine", "index.js:2:"},
		"node syntax":          {"nodejs", "exports.handler = () => {\n  const = 3\n}", "SyntaxError", "Unexpected token '='", "index.js:2\n  const = 3"},
		"node module syntax":   {"nodejs", "export const a = 1\nexport const = 3", "SyntaxError", "Unexpected token '='", "index.js:2\n"},
		"node forgotten async": {"nodejs", "exports.handler = () => {\n  await 1\n}", "SyntaxError", "await is only valid in async functions", "index.js:2\n  await 1"},
		"node no module":       {"nodejs", "require('left-pad')", "Error", "Cannot find module 'left-pad'\nRequire stack:\n- index.js", "index.js:1:1"},
		"node rejection nobody awaits": {"nodejs", "exports.handler = () => new Promise(() => { Promise.reject(new EvalError('lost')); setInterval(() => {}, 9) })",
			"EvalError", "lost", "index.js:1:"},
		"node thrown in a timer": {"nodejs", "exports.handler = () => new Promise(() => setTimeout(() => { throw new Error('late') }, 1))",
			"Error", "late", "index.js:1:"},

		"python ValueError": {"python", "def handler(event):\n    return int('x')", "ValueError", "invalid literal for int() with base 10: 'x'",
			"Traceback (most recent call last):\n  File \"index.py\", line 2, in handler\n    return int('x')"},
		"python in a library": {"python", "import json\ndef handler(event):\n    json.loads('{')", "JSONDecodeError", "Expecting property name",
			`File "index.py", line 3, in handler`},
		"python async": {"python", "async def handler(event):\n    raise LookupError('gone')", "LookupError", "gone", `File "index.py", line 2, in handler`},
		"python cause": {"python", "def handler(event):\n    try:\n        1/0\n    except ZeroDivisionError as e:\n        raise KeyError('k') from e",
			"KeyError", "'k'", "ZeroDivisionError: division by zero\n\nThe above exception was the direct cause"},
		"python syntax":  {"python", "def handler(event):\n    return (", "SyntaxError", "(index.py, line 2)", `File "index.py", line 2`},
		"python import":  {"python", "import requestz", "ModuleNotFoundError", "No module named 'requestz'", `File "index.py", line 1, in <module>`},
		"python no text": {"python", "def handler(event):\n    assert event is None", "AssertionError", "AssertionError", "line 2"},
		"python recursion": {"python", "def handler(event):\n    return handler(event)", "RecursionError",
			"maximum recursion depth exceeded", `File "index.py", line 2, in handler`},
		"python wrong file": {"python", "def handler(event):\n    open('no.txt')", "FileNotFoundError", "[Errno 2] No such file or directory: 'no.txt'", "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failure := run(t, function(c.runtime, c.code), `{}`).failure(t)
			require.Equal(t, c.errorType, failure.ErrorType, "%+v", failure)
			require.Contains(t, failure.Error, c.message)
			require.Contains(t, failure.Stack, c.stack)
			for _, internal := range []string{"node:internal", "node.cjs", "shims", "<frozen", "/tmp", workspacePrefix, "asyncio", "python.py"} {
				require.NotContains(t, failure.Stack+failure.Error, internal)
			}
		})
	}
}

func TestAnEntryPointThatNamesNothingIsToldWithWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ runtime, code, message string }{
		{"nodejs", "exports.main = () => 1; exports.other = 2", `The entry point index.handler was not found: the code does not export "handler", it exports main, other.`},
		{"nodejs", "const handler = 1", `it exports nothing.`},
		{"nodejs", "export const handler = 'text'", `what is exported as "handler" is a string.`},
		{"nodejs", "exports.index = 1", `it exports index.`},
		{"nodejs", "module.exports = null", `it exports nothing.`},
		{"python", "import json\ndef main(event):\n    pass", `The entry point index.handler was not found: the code does not define "handler", it defines main.`},
		{"python", "handler = 3", `"handler" is a int.`},
		{"python", "x = 3", `it defines no function.`},
	} {
		failure := run(t, function(c.runtime, c.code), `{}`).failure(t)
		require.Equal(t, domain.ErrorHandlerNotFound, failure.ErrorType)
		require.Contains(t, failure.Error, c.message)
	}
}

func TestWhatEveryObjectHasIsNoHandler(t *testing.T) {
	t.Parallel()
	f := function("nodejs", "exports.main = () => 1")
	f.EntryPoint = "__proto__.constructor"
	failure := run(t, f, `{}`).failure(t)
	require.Equal(t, domain.ErrorHandlerNotFound, failure.ErrorType)
	require.Contains(t, failure.Error, `does not export "constructor", it exports main.`)
}

func TestErrorsThatCannotBeShownLeakNothing(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]domain.Function{
		"python text": function("python", "class E(Exception):\n    def __str__(self):\n        raise KeyboardInterrupt\ndef handler(event):\n    raise E"),
		"python code": function("python", "class C:\n    def __str__(self):\n        raise SystemExit\ndef handler(event):\n    raise SystemExit(C())"),
		"node":        function("nodejs", "class E extends Error { get message() { throw this } }\nexports.handler = () => { throw new E() }"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, f, `{}`)
			require.NotEqual(t, domain.ErrorInternal, r.failure(t).ErrorType)
			all := fmt.Sprintf("%+v %+v", r.end, r.lines)
			require.NotContains(t, all, workspacePrefix)
			require.NotContains(t, all, "shims")
		})
	}
}

func TestAForkedChildDoesNotAnswerForItsParent(t *testing.T) {
	t.Parallel()
	code := "import os, time\ndef handler(event):\n    child = os.fork()\n    if child == 0:\n        print('child')\n        return 'child'\n" +
		"    os.waitpid(child, 0)\n    return 'parent'"
	r := run(t, function("python", code), `{}`)
	require.Equal(t, `"parent"`, r.output(t))
	require.Equal(t, []string{"child"}, r.text(domain.Stdout))
}

func TestOutputsThatAreNoJSONAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ runtime, code, message string }{
		"BigInt":            {"nodejs", "exports.handler = () => 1n", "Do not know how to serialize a BigInt"},
		"cycle":             {"nodejs", "exports.handler = () => { const a = {}; a.a = a; return a }", "circular structure"},
		"function":          {"nodejs", "exports.handler = () => () => 1", "a function has no JSON form"},
		"generator":         {"nodejs", "exports.handler = function* () { yield 1 }", "a generator has no JSON form"},
		"async generator":   {"nodejs", "exports.handler = async function* () { yield 1 }", "a generator has no JSON form"},
		"symbol":            {"nodejs", "exports.handler = () => Symbol('x')", "a symbol has no JSON form"},
		"deep":              {"nodejs", "exports.handler = () => { let a = []; for (let i = 0; i < 200; i++) a = [a]; return a }", "at most 100 levels deep, but is 201 deep"},
		"python NaN":        {"python", "def handler(event):\n    return float('nan')", "not JSON compliant"},
		"python object":     {"python", "def handler(event):\n    return object()", "Object of type object is not JSON serializable"},
		"python cycle":      {"python", "def handler(event):\n    a = []\n    a.append(a)\n    return a", "Circular reference detected"},
		"python generator":  {"python", "def handler(event):\n    yield 1", "Object of type generator is not JSON serializable"},
		"python async gen.": {"python", "async def handler(event):\n    yield 1", "Object of type async_generator is not JSON serializable"},
		"python deep":       {"python", "def handler(event):\n    a = []\n    for i in range(100000):\n        a = [a]\n    return a", "maximum recursion depth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failure := run(t, function(c.runtime, c.code), `{}`).failure(t)
			require.Equal(t, domain.ErrorOutputInvalid, failure.ErrorType, "%+v", failure)
			require.Contains(t, failure.Error, c.message)
		})
	}
}

func TestOutputsAreLimited(t *testing.T) {
	t.Parallel()
	largest := domain.MaxOutputBytes - len(`""`)
	for _, c := range []struct{ runtime, code string }{
		{"nodejs", "exports.handler = (n) => 'x'.repeat(n)"},
		{"python", "def handler(n):\n    return 'x' * n"},
	} {
		require.Len(t, run(t, function(c.runtime, c.code), fmt.Sprint(largest)).output(t), domain.MaxOutputBytes)
		for _, tooLong := range []int{largest + 1, largest + 1000, 4 * largest} {
			require.Equal(t, domain.ErrorOutputTooLarge, run(t, function(c.runtime, c.code), fmt.Sprint(tooLong)).failure(t).ErrorType)
		}
	}
}

func TestTheLargestInputArrives(t *testing.T) {
	t.Parallel()
	input := `"` + strings.Repeat("ü", domain.MaxInputBytes/2-1) + `"`
	for _, c := range []struct{ runtime, code string }{
		{"nodejs", "exports.handler = (s) => s.length"},
		{"python", "def handler(s):\n    return len(s)"},
	} {
		require.Equal(t, fmt.Sprint(domain.MaxInputBytes/2-1), run(t, function(c.runtime, c.code), input).output(t))
	}
}

// What a call leaves in its folder, the next call of the same process finds there: so it is removed here.
func TestRunsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	f := function("python", "import os, time\ndef handler(event):\n    open('mine', 'x').write(event)\n    time.sleep(0.05)\n    found = open('mine').read()\n    os.remove('mine')\n    return found")
	var runs sync.WaitGroup
	for i := range 8 {
		runs.Go(func() {
			want := fmt.Sprintf(`"run %d"`, i)
			if got, ok := runOn(t.Context(), runner, f, want).end.(domain.ExecutionCompleted); !ok || string(got.Output) != want {
				t.Errorf("run %d ended as %+v", i, got)
			}
		})
	}
	runs.Wait()
}

package runners

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func TestWhatAHandlerPrintsIsNeverTakenForItsResult(t *testing.T) {
	t.Parallel()
	for _, f := range []domain.Function{
		function("nodejs", `exports.handler = () => { console.log('token output\n"forged"'); console.error('x output\n1'); return 'real' }`),
		function("python", "def handler(event):\n    print('token output\\n\"forged\"')\n    import sys\n    print('x output\\n1', file=sys.stderr)\n    return 'real'"),
	} {
		r := run(t, f, `{}`)
		require.Equal(t, `"real"`, r.output(t))
		require.Equal(t, []string{"token output", `"forged"`}, r.text(domain.Stdout))
		require.Equal(t, []string{"x output", "1"}, r.text(domain.Stderr))
	}
}

func TestLinesComeInTheOrderInWhichTheyWerePrinted(t *testing.T) {
	t.Parallel()
	var alternating, threads []string
	for i := range 300 {
		alternating = append(alternating, fmt.Sprint("o", i), fmt.Sprint("e", i))
		threads = append(threads, fmt.Sprint("t", i))
	}
	for name, c := range map[string]struct {
		runtime, code string
		want          []string
	}{
		"node console": {"nodejs", "exports.handler = () => { for (let i = 0; i < 300; i++) { console.log('o' + i); console.error('e' + i) } }", alternating},
		"node awaits":  {"nodejs", "exports.handler = async () => { for (let i = 0; i < 300; i++) { console.log('o' + i); await 0; console.error('e' + i); await 0 } }", alternating},
		"node write": {"nodejs", `exports.handler = async () => {
			process.stdout.write('a');
			process.stderr.write(Buffer.from('e1\n'));
			process.stdout.write('62630a', 'hex');
			process.stderr.write('ü'.repeat(5000) + '\n');
			await new Promise((done) => process.stdout.write('c\n', done));
			console.log({d: [1]});
			process.stdout.end('e');
		}`, []string{"e1", "abc", strings.Repeat("ü", 5000), "c", "{ d: [ 1 ] }", "e"}},
		"python print": {"python", "import sys\ndef handler(event):\n    for i in range(300):\n        print(f'o{i}')\n        print(f'e{i}', file=sys.stderr)", alternating},
		"python write": {"python", `import logging, sys, traceback
def handler(event):
    print('a', end='')
    sys.stderr.buffer.write(b'e1\n')
    print('b')
    logging.warning('w')
    sys.stdout.buffer.write(b'c\n')
    sys.stderr.write('ü' * 5000 + '\n')
    sys.__stdout__.write('d\n')
    traceback.print_exception(ValueError, ValueError('v'), None)
    print('last', end='')`, []string{"e1", "ab", "WARNING:root:w", "c", strings.Repeat("ü", 5000), "d", "ValueError: v", "last"}},
		"python threads": {"python", `import threading
def handler(event):
    turn = [0]
    ready = threading.Condition()
    def say(mine):
        for i in range(mine, 300, 4):
            with ready:
                ready.wait_for(lambda: turn[0] == i)
                print(f't{i}')
                turn[0] += 1
                ready.notify_all()
    threads = [threading.Thread(target=say, args=(n,)) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]`, threads},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, function(c.runtime, c.code), `{}`)
			require.Equal(t, "null", r.output(t))
			var printed []string
			for _, line := range r.lines {
				printed = append(printed, line.Text)
			}
			require.Equal(t, c.want, printed)
		})
	}
}

// What does not come from the interpreter's own printing has no order against it, but each keeps its own.
func TestWhatOthersWriteKeepsItsOwnOrder(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]domain.Function{
		"node child":   function("nodejs", "exports.handler = () => { for (let i = 0; i < 30; i++) { console.log('o' + i); require('child_process').spawnSync('echo', ['e' + i], {stdio: 'inherit'}) } }"),
		"node given":   function("nodejs", "exports.handler = () => { for (let i = 0; i < 30; i++) { console.log('o' + i); require('child_process').spawnSync('echo', ['e' + i], {stdio: [0, process.stdout, 2]}) } }"),
		"node fs":      function("nodejs", "exports.handler = () => { for (let i = 0; i < 30; i++) { console.log('o' + i); require('fs').writeSync(1, 'e' + i + '\\n') } }"),
		"python child": function("python", "import subprocess\ndef handler(event):\n    for i in range(30):\n        print(f'o{i}')\n        subprocess.run(['echo', f'e{i}'])"),
		"python os":    function("python", "import os\ndef handler(event):\n    for i in range(30):\n        print(f'o{i}')\n        os.write(1, b'e%d\\n' % i)"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			numbers := map[byte]int{}
			for _, text := range run(t, f, `{}`).text(domain.Stdout) {
				require.Equal(t, fmt.Sprint(numbers[text[0]]), text[1:])
				numbers[text[0]]++
			}
			require.Equal(t, map[byte]int{'o': 30, 'e': 30}, numbers)
		})
	}
}

func TestARedirectedDescriptorDoesNotTakeWhatIsPrinted(t *testing.T) {
	t.Parallel()
	code := `import os, sys
def handler(event):
    os.dup2(os.open('mine', os.O_CREAT | os.O_WRONLY), 1)
    os.close(2)
    os.write(1, b'redirected')
    print('out')
    print('err', file=sys.stderr)
    return open('mine').read()`
	r := run(t, function("python", code), `{}`)
	require.Equal(t, `"redirected"`, r.output(t))
	require.Len(t, r.lines, 2)
}

func TestAPipeThatDoesNotBlockLosesNothing(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]domain.Function{
		"node": function("nodejs", `exports.handler = () => {
			require('child_process').spawnSync('python3', ['-c', 'import os; os.set_blocking(1, False)'], {stdio: 'inherit'});
			for (let i = 0; i < 5000; i++) console.log(String(i).padStart(100, '.')) }`),
		"python": function("python", "import os\ndef handler(event):\n    os.set_blocking(1, False)\n    for i in range(5000):\n        print(str(i).rjust(100, '.'))"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			printed := run(t, f, `{}`).text(domain.Stdout)
			require.Len(t, printed, 5000)
			for i, line := range printed {
				require.Equal(t, fmt.Sprint(i), strings.TrimLeft(line, "."))
			}
		})
	}
}

func TestWhatOthersWriteToTheDescriptorsIsLogToo(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]domain.Function{
		"node child":  function("nodejs", `exports.handler = () => { require('child_process').execSync('echo out; echo err >&2', {stdio: 'inherit'}) }`),
		"node given":  function("nodejs", `exports.handler = () => { require('child_process').spawnSync('sh', ['-c', 'echo out; echo err >&2'], {stdio: ['ignore', process.stdout, process.stderr]}) }`),
		"node fs":     function("nodejs", `exports.handler = () => { const fs = require('fs'); fs.writeSync(1, 'out\n'); fs.writeSync(process.stderr.fd, 'err\n') }`),
		"node worker": function("nodejs", `exports.handler = () => new Promise((done) => new (require('worker_threads').Worker)('console.log("out"); console.error("err")', {eval: true}).on('exit', () => done()))`),
		"python child": function("python", "import subprocess, sys\ndef handler(event):\n    subprocess.run(['echo', 'out'])\n"+
			"    subprocess.run(['echo', 'err'], stdout=sys.stderr)"),
		"python os": function("python", "import os\ndef handler(event):\n    os.write(1, b'out\\n')\n    os.write(2, b'err\\n')"),
		"python processes": function("python", "import multiprocessing, sys\ndef say(text, to):\n    print(text, file=getattr(sys, to))\n"+
			"def handler(event):\n    with multiprocessing.get_context('fork').Pool(2) as pool:\n        pool.starmap(say, [('out', 'stdout'), ('err', 'stderr')])"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, f, `{}`)
			require.IsType(t, domain.ExecutionCompleted{}, r.end, "%+v", r.end)
			require.Equal(t, []string{"out"}, r.text(domain.Stdout))
			require.Equal(t, []string{"err"}, r.text(domain.Stderr))
		})
	}
}

func TestManyProcessesCanPrintAtOnce(t *testing.T) {
	t.Parallel()
	code := `import os
def handler(event):
    for n in range(4):
        if os.fork() == 0:
            for i in range(50):
                print(str(n) * 15000)
            os._exit(0)
    for n in range(4):
        os.wait()
    return 'x' * 100000`
	r := run(t, function("python", code), `{}`)
	require.Len(t, r.output(t), 100_002)
	size := 0
	for _, line := range r.text(domain.Stdout) {
		size += len(line)
	}
	require.Greater(t, size, 1<<19)
}

func TestEverythingPrintedBeforeTheAnswerIsDelivered(t *testing.T) {
	t.Parallel()
	const lines = 10_000
	for name, f := range map[string]domain.Function{
		"node":         function("nodejs", `exports.handler = async () => { for (let i = 0; i < 10000; i++) console.log(String(i).padStart(100, '.')) }`),
		"node at exit": function("nodejs", `exports.handler = async () => { for (let i = 0; i < 10000; i++) console.log(String(i).padStart(100, '.')); process.exit(0) }`),
		"python":       function("python", "def handler(event):\n    for i in range(10000):\n        print(str(i).rjust(100, '.'))"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			printed := run(t, f, `{}`).text(domain.Stdout)
			require.Len(t, printed, lines)
			for i, line := range printed {
				require.Equal(t, fmt.Sprint(i), strings.TrimLeft(line, "."))
			}
		})
	}
}

func TestALogIsCutVisiblyAndTheRunGoesOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ runtime, code string }{
		"too many bytes": {"nodejs", `exports.handler = async () => { for (let i = 0; i < 4000; i++) console.log('y'.repeat(1023)); return 'done' }`},
		"too many lines": {"python", "def handler(event):\n    for i in range(50000):\n        print()\n    return 'done'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, function(c.runtime, c.code), `{}`)
			require.Equal(t, `"done"`, r.output(t))
			size := 0
			for _, line := range r.text(domain.Stdout) {
				size += len(line) + 1
			}
			require.LessOrEqual(t, size, MaxLogBytes)
			require.LessOrEqual(t, len(r.lines), MaxLogLines+1)
			require.Equal(t, []string{"The log ends here: an execution may log 1024 KiB in at most 20000 lines."}, r.text(domain.System))
			require.Equal(t, domain.System, r.lines[len(r.lines)-1].Stream)
		})
	}
}

func TestLinesAreCleanText(t *testing.T) {
	t.Parallel()
	code := `import sys, os
def handler(event):
    os.write(1, b'nul \x00 and \xff\xfe bytes\r\n')
    print('lone \ud800')
    print('ü' * 20000)
    os.write(2, b'no newline')`
	r := run(t, function("python", code), `{}`)
	require.Equal(t, "null", r.output(t))
	out := r.text(domain.Stdout)
	const raw = "nul \uFFFD and \uFFFD bytes"
	require.Contains(t, out, raw)
	out = slices.DeleteFunc(out, func(text string) bool { return text == raw })
	require.Len(t, out, 4)
	require.Equal(t, `lone \ud800`, out[0])
	require.Equal(t, strings.Repeat("ü", MaxLineBytes/2)+continuationMark, out[1])
	require.Equal(t, strings.Repeat("ü", 20000), strings.ReplaceAll(strings.Join(out[1:], ""), continuationMark, ""))
	require.Equal(t, []string{"no newline"}, r.text(domain.Stderr))
	for _, line := range r.lines {
		require.True(t, utf8.ValidString(line.Text))
		require.Equal(t, time.UTC, line.At.Location())
	}
}

func TestErrorsAreCleanTextToo(t *testing.T) {
	t.Parallel()
	failure := run(t, function("nodejs", `exports.handler = () => { throw new Error('a\0b\ud800' + 'x'.repeat(1e6)) }`), `{}`).failure(t)
	require.True(t, strings.HasPrefix(failure.Error, "a\uFFFDb\uFFFDxxx"), failure.Error[:20])
	require.LessOrEqual(t, len(failure.Error), maxErrorMessage+len("…"))
}

func TestAReaderThatLagsLosesNothingAndDoesNotStopTheClock(t *testing.T) {
	t.Parallel()
	f := function("python", "import os\ndef handler(event):\n    for i in range(5000):\n        print(str(i).rjust(100, '.'))")
	f.TimeoutSec = 2
	stalled := make(chan struct{})
	time.AfterFunc(2500*time.Millisecond, func() { close(stalled) })
	var count int
	end := runner.Run(t.Context(), Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(`{}`)}, func(line domain.ExecutionLogLine) {
		<-stalled
		require.Equal(t, fmt.Sprint(count), strings.TrimLeft(line.Text, "."))
		count++
	})
	require.Equal(t, domain.ErrorTimeout, end.(domain.ExecutionFailed).ErrorType, "the handler hangs in print and its time runs out")
	require.Greater(t, count, 400, "what stood in the pipe is not lost")
}

package runners

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func TestARunThatTakesTooLongIsStoppedWithAllItStarted(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]domain.Function{
		"node waits":      function("nodejs", `exports.handler = () => { console.log('begun'); return new Promise(r => setTimeout(r, 60000)) }`),
		"node spins":      function("nodejs", `exports.handler = () => { console.log('begun'); for (;;); }`),
		"node child":      function("nodejs", `exports.handler = () => { console.log('begun'); require('child_process').execSync('sleep 61') }`),
		"python sleeps":   function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(60)"),
		"python stubborn": function("python", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndef handler(event):\n    print('begun')\n    while True:\n        time.sleep(1)"),
		"python child":    function("python", "import subprocess\ndef handler(event):\n    print('begun')\n    subprocess.run(['sleep', '61'])"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.TimeoutSec = 2
			r := run(t, f, `{}`)
			failure := r.failure(t)
			require.Equal(t, domain.ErrorTimeout, failure.ErrorType)
			require.Equal(t, "The function ran longer than its limit of 2 s and was stopped.", failure.Error)
			require.Equal(t, []string{"begun"}, r.text(domain.Stdout))
			require.InDelta(t, 2000, failure.DurationMS, 500)
			require.Positive(t, failure.MemoryMB)
		})
	}
}

func TestChildrenOfAHandlerEndWithIt(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]string{
		"in its group":        `subprocess.Popen(['sleep', '62'])`,
		"in its own session":  `subprocess.Popen(['sleep', '62'], start_new_session=True)`,
		"orphaned, no stdout": `subprocess.Popen(['sh', '-c', 'setsid sleep 62 & echo $!; exit'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)`,
		"writing for ever":    `subprocess.Popen(['sh', '-c', 'while :; do echo still here; done'], start_new_session=True)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code := "import subprocess\ndef handler(event):\n    child = " + start + "\n" +
				"    return int(child.stdout.readline()) if child.stdout else child.pid"
			began := time.Now()
			r := runOn(t.Context(), plain, function("python", code), `{}`)
			require.Less(t, time.Since(began), 3*time.Second)
			pid, err := strconv.Atoi(r.output(t))
			require.NoError(t, err)
			require.Eventually(t, func() bool { return !alive(pid) }, 2*time.Second, 10*time.Millisecond)
		})
	}
}

func TestWhatHidesFromItsRunEndsWithItAsWell(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run functions as somebody else")
	}
	code := "import subprocess\ndef handler(event):\n" +
		"    child = subprocess.Popen(['env', '-i', 'setsid', 'sh', '-c', 'echo $$; exec sleep 7788'], stdout=subprocess.PIPE)\n" +
		"    return int(child.stdout.readline())"
	pid, err := strconv.Atoi(runOn(t.Context(), plain, function("python", code), `{}`).output(t))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !alive(pid) }, 2*time.Second, 10*time.Millisecond)
}

func TestPythonHasThreadsInItsMemory(t *testing.T) {
	t.Parallel()
	code := `import threading
def deep(n):
    return n if n == 0 else 1 + deep(n - 1)
def handler(event):
    barrier, found = threading.Barrier(33), []
    def work():
        barrier.wait()
        found.append(deep(900))
    threads = [threading.Thread(target=work) for _ in range(32)]
    [t.start() for t in threads]
    barrier.wait()
    [t.join() for t in threads]
    return [len(found), deep(900)]`
	require.Equal(t, `[32,900]`, run(t, function("python", code), `{}`).output(t))
}

// alive tells whether a process runs; a zombie that nobody has reaped yet does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ") && syscall.Kill(pid, 0) == nil
}

func TestAProcessThatExitsBeforeItAnswersFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ runtime, code, message string }{
		"node exit":        {"nodejs", "exports.handler = () => { console.log('last words'); process.exit(0) }", "exited with code 0 before the handler answered"},
		"node exit code":   {"nodejs", "console.log('last words'); process.exit(7)", "exited with code 7"},
		"node kills":       {"nodejs", "exports.handler = () => { console.log('last words'); process.kill(process.pid, 'SIGKILL'); for(;;); }", "ended by signal 9 (killed)"},
		"node never":       {"nodejs", "exports.handler = () => { console.log('last words'); return new Promise(() => {}) }", "The handler never answered"},
		"node no callback": {"nodejs", "exports.handler = (event, context, callback) => { console.log('last words') }", "The handler never answered"},
		"python sys.exit":  {"python", "import sys\ndef handler(event):\n    print('last words')\n    sys.exit(3)", "exited with code 3"},
		"python exit text": {"python", "print('last words')\nexit('so')", "exited with code 1"},
		"python os._exit":  {"python", "import os\ndef handler(event):\n    print('last words')\n    os._exit(5)", "exited with code 5"},
		"python crash":     {"python", "import os, signal\ndef handler(event):\n    print('last words')\n    os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11 (segmentation fault)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, function(c.runtime, c.code), `{}`)
			failure := r.failure(t)
			require.Equal(t, domain.ErrorExited, failure.ErrorType, "%+v", failure)
			require.Contains(t, failure.Error, c.message)
			require.Equal(t, []string{"last words"}, r.text(domain.Stdout))
		})
	}
}

func TestMemoryIsLimited(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ runtime, code string }{
		"node heap":      {"nodejs", "exports.handler = () => { const a = []; for (;;) a.push(new Array(1e4).fill(0).map((_, i) => ({i}))) }"},
		"node buffers":   {"nodejs", "exports.handler = () => { const a = []; for (;;) a.push(Buffer.alloc(4 << 20, 1)) }"},
		"node one array": {"nodejs", "exports.handler = () => new Uint8Array(1 << 30).fill(1).length"},
		"python list":    {"python", "def handler(event):\n    a = []\n    while True:\n        a.append('x' * 100000)"},
		"python one":     {"python", "def handler(event):\n    return len(bytearray(1 << 30))"},
		"python loading": {"python", "a = bytearray(1 << 30)"},
		"python kept":    {"python", "a = None\ndef handler(event):\n    global a\n    while True:\n        a = (a,)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failure := run(t, function(c.runtime, c.code), `{}`).failure(t)
			require.Equal(t, domain.ErrorOutOfMemory, failure.ErrorType, "%+v", failure)
			require.Equal(t, "The function needed more memory than its limit of 128 MB allows.", failure.Error)
		})
	}
}

func TestWhoCatchesThatMemoryIsFullMayStillAnswer(t *testing.T) {
	t.Parallel()
	code := "a = []\ndef handler(event):\n    try:\n        while True:\n            a.append(object())\n    except MemoryError as e:\n        raise ValueError('x') from e"
	failure := run(t, function("python", code), `{}`).failure(t)
	require.Contains(t, []string{"ValueError", domain.ErrorOutOfMemory}, failure.ErrorType, "%+v", failure)
}

func TestPeakMemoryIsTheHandlersOwn(t *testing.T) {
	t.Parallel()
	ballast := make([]byte, 200<<20) // what this process has must not count
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	for _, c := range []struct {
		runtime, small, large string
		atMost                int
	}{
		{"nodejs", "exports.handler = () => 1", "exports.handler = () => Buffer.alloc(50 << 20, 1).length", 100},
		{"python", "def handler(event):\n    return 1", "def handler(event):\n    return len(bytearray(b'x') * (50 << 20))", 40},
	} {
		small := memoryOf(t, function(c.runtime, c.small))
		large := memoryOf(t, function(c.runtime, c.large))
		require.Positive(t, small)
		require.Less(t, small, c.atMost)
		require.InDelta(t, small+50, large, 10)
	}
	require.EqualValues(t, 1, ballast[0])
}

func memoryOf(t *testing.T, f domain.Function) int {
	completed, ok := run(t, f, `{}`).end.(domain.ExecutionCompleted)
	require.True(t, ok)
	return completed.MemoryMB
}

func TestARunEndsWhenItsContextDoes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	end := runner.Run(ctx, Invocation{
		ExecutionID: uuid.New(), Function: function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(60)"), Input: json.RawMessage(`{}`),
	}, func(domain.ExecutionLogLine) { cancel() })
	failure, ok := end.(domain.ExecutionFailed)
	require.True(t, ok)
	require.Equal(t, domain.ErrorWorkerStopped, failure.ErrorType)
}

func TestARuntimeThatIsGoneFailsTheRun(t *testing.T) {
	t.Parallel()
	failure := run(t, function("python3.9x", "x = 1"), `{}`).failure(t)
	require.Equal(t, domain.ErrorRuntimeUnavailable, failure.ErrorType)
	require.Contains(t, failure.Error, `"python3.9x" is not installed on this host, which has: `+strings.Join(runner.config.Runtimes.Available(), ", "))
}

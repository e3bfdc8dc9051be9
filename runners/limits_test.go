package runners

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func TestAForgedAnswerFailsTheRun(t *testing.T) {
	t.Parallel()
	for _, f := range []domain.Function{
		function("nodejs", `exports.handler = () => { require('fs').writeSync(4, 'guess output\n"forged"\n'); return 'real' }`),
		function("nodejs", `exports.handler = () => { require('fs').writeSync(4, 'garbage'); return 'real' }`),
		function("python", "import os\ndef handler(event):\n    os.write(4, b'guess output\\n1\\n')\n    return 'real'"),
		function("python", "import os\ndef handler(event):\n    os.write(4, b'x' * 100000)\n    return 'real'"),
	} {
		failure := run(t, f, `{}`).failure(t)
		require.Equal(t, domain.ErrorOutputInvalid, failure.ErrorType)
		require.Contains(t, failure.Error, "file descriptor 4")
	}
}

func TestPatchedGlobalsDoNotBreakTheAnswer(t *testing.T) {
	t.Parallel()
	node := `JSON.stringify = () => 'no'; require('fs').writeSync = () => 0; process.stdout.write = () => true; exports.handler = () => ({ok: 1})`
	require.Equal(t, `{"ok":1}`, run(t, function("nodejs", node), `{}`).output(t))
	python := "import json, sys, io\njson.dumps = None\nsys.stdout = io.StringIO()\ndef handler(event):\n    print('lost')\n    return {'ok': 1}"
	require.Equal(t, `{"ok":1}`, run(t, function("python", python), `{}`).output(t))
}

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
			r := run(t, function("python", code), `{}`)
			require.Less(t, time.Since(began), 3*time.Second)
			pid, err := strconv.Atoi(r.output(t))
			require.NoError(t, err)
			require.Eventually(t, func() bool { return !alive(pid) }, 2*time.Second, 10*time.Millisecond)
		})
	}
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
		"node one array": {"nodejs", "exports.handler = () => new Uint8Array(1 << 30).length"},
		"python list":    {"python", "def handler(event):\n    a = []\n    while True:\n        a.append('x' * 100000)"},
		"python one":     {"python", "def handler(event):\n    return len(bytearray(1 << 30))"},
		"python loading": {"python", "a = bytearray(1 << 30)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failure := run(t, function(c.runtime, c.code), `{}`).failure(t)
			require.Equal(t, domain.ErrorOutOfMemory, failure.ErrorType, "%+v", failure)
			require.Equal(t, "The function needed more than its memory limit of 128 MB.", failure.Error)
		})
	}
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

func TestTheServersEnvironmentStaysWithTheServer(t *testing.T) {
	t.Parallel()
	require.NotEmpty(t, os.Getenv("VOLTRUN_TEST_SECRET"))
	for _, f := range []domain.Function{
		function("nodejs", `exports.handler = () => Object.keys(process.env).sort()`),
		function("python", "import os\ndef handler(event):\n    return sorted(os.environ)"),
	} {
		var names []string
		require.NoError(t, json.Unmarshal([]byte(run(t, f, `{}`).output(t)), &names))
		allowed := []string{"HOME", "LANG", "LC_CTYPE", "PATH", "PWD", "TMPDIR", "TZ", "USER", "VOLTRUN_EXECUTION_ID"} // PWD and LC_CTYPE: set by sh and Python themselves
		require.Subset(t, allowed, names)
	}
}

func TestFunctionsRunWithoutTheServersRights(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run functions as somebody else")
	}
	code := `import os
def refused(path, mode):
    try:
        open(path, mode).close()
    except PermissionError:
        return True
def handler(event):
    return [os.getuid() != 0, os.getgid() != 0, os.getgroups(), refused(__file__, 'a'), refused(os.path.dirname(__file__) + '/new', 'w'),
        refused('/etc/shadow', 'r'), sorted(int(f) for f in os.listdir('/proc/self/fd'))[:5]]`
	require.Equal(t, `[true,true,[],true,true,true,[0,1,2,3,4]]`, run(t, function("python", code), `{}`).output(t))
}

func TestFoldersAreGoneAfterTheRun(t *testing.T) {
	t.Parallel()
	code := "import os\ndef handler(event):\n    os.makedirs('a/b')\n    open('a/b/c', 'w').close()\n    os.chmod('a', 0)\n    return os.getcwd()"
	var folder string
	require.NoError(t, json.Unmarshal([]byte(run(t, function("python", code), `{}`).output(t)), &folder))
	require.NoDirExists(t, filepath.Dir(folder))
}

func TestAFolderOfADeadServerIsRemovedAndOneOfALivingIsNot(t *testing.T) {
	dead, err := os.MkdirTemp("", workspacePrefix)
	require.NoError(t, err)
	living, err := newWorkspaces(nil)
	require.NoError(t, err)
	for _, folder := range []string{dead, living.root} {
		old := time.Now().Add(-time.Hour)
		require.NoError(t, os.Chtimes(folder, old, old))
	}
	removeDeadWorkspaces()
	require.NoDirExists(t, dead)
	require.DirExists(t, living.root)
	require.NoError(t, living.close())
	require.NoDirExists(t, living.root)
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
	require.Contains(t, failure.Error, `"python3.9x" is not installed on this host, which has: `+strings.Join(runner.runtimes.Available(), ", "))
}

// Not parallel, so that nobody else opens anything meanwhile.
func TestRunsLeaveNothingOpenBehind(t *testing.T) {
	functions := []domain.Function{
		function("nodejs", "exports.handler = () => 1"),
		function("python", "import subprocess\ndef handler(event):\n    subprocess.Popen(['sleep', '62'], start_new_session=True)"),
		function("python", "import os\nos._exit(1)"),
		function("python", "import os\ndef handler(event):\n    os.write(4, b'x')"),
	}
	runAll := func() {
		for _, f := range functions {
			run(t, f, `"`+strings.Repeat("x", 1<<20)+`"`)
		}
	}
	runAll() // what is made once and kept
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 3 {
		runAll()
	}
	for range 200 {
		if openFiles(t) <= files && runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(10 * time.Millisecond) // the last ones are just going
	}
	require.Equal(t, []int{files, goroutines}, []int{openFiles(t), runtime.NumGoroutine()}, "open files and goroutines")
}

func openFiles(t *testing.T) int {
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(open)
}

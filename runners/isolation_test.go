package runners

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners/sandbox"
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
	node = `for (const name of ['Buffer', 'Promise', 'Object', 'String', 'Error', 'Date', 'Math', 'JSON', 'Atomics', 'SyntaxError']) globalThis[name] = undefined;
		process.exit = () => 1; globalThis.process = undefined; exports.handler = () => ({ok: 1})`
	require.Equal(t, `{"ok":1}`, run(t, function("nodejs", node), `{}`).output(t))
	require.Equal(t, "mine", run(t, function("nodejs", "const E = Error; "+strings.Replace(node, "({ok: 1})", "{ throw new E('mine') }", 1)), `{}`).failure(t).Error)
	python := "import json, sys, io\njson.dumps = None\nsys.stdout = io.StringIO()\ndef handler(event):\n    print('lost')\n    return {'ok': 1}"
	require.Equal(t, `{"ok":1}`, run(t, function("python", python), `{}`).output(t))
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
	require.Equal(t, `[true,true,[],true,true,true,[0,1,2,3,4]]`, runOn(t.Context(), plain, function("python", code), `{}`).output(t))
}

// hold starts a Python function that does something, prints what it found and then waits until the test is over. It
// returns its lines as they come.
func hold(t *testing.T, body string) <-chan string {
	ctx, cancel := context.WithCancel(t.Context())
	lines, over := make(chan string, 10), make(chan struct{})
	f := function("python", "import os, time\nsecret = 'hidden' * 2\ndef handler(event):\n    "+body+"\n    time.sleep(60)")
	go func() {
		defer close(over)
		plain.Run(ctx, Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(`{}`)}, func(line domain.ExecutionLogLine) { lines <- line.Text })
	}()
	t.Cleanup(func() { cancel(); <-over })
	return lines
}

func TestARunCannotReachAnother(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run functions as somebody else")
	}
	other := <-hold(t, "open('mine', 'w').close(); os.chmod('mine', 0o777); print(os.getpid(), os.getcwd(), __file__, os.getuid())")
	fields := strings.Fields(other)
	pid, cwd, file, uid := fields[0], fields[1], fields[2], fields[3]
	code := `import os, signal
def refused(act, *args):
    try:
        act(*args)
    except PermissionError:
        return True
def handler(event):
    pid, cwd, file = event
    folder = os.path.dirname(file)
    return [refused(os.listdir, folder), refused(os.listdir, cwd), refused(open, cwd + '/mine'), refused(open, file), refused(os.listdir, f'/proc/{pid}/cwd/'),
        refused(open, f'/proc/{pid}/mem', 'rb'), refused(open, f'/proc/{pid}/environ'), refused(os.kill, int(pid), signal.SIGKILL),
        refused(os.listdir, os.path.dirname(folder)), os.getuid()]`
	input, err := json.Marshal([]string{pid, cwd, file})
	require.NoError(t, err)
	output := runOn(t.Context(), plain, function("python", code), string(input)).output(t)
	require.Contains(t, output, "[true,true,true,true,true,true,true,true,true,")
	require.NotContains(t, output, uid)
}

func TestFoldersAreGoneWithTheProcess(t *testing.T) {
	t.Parallel()
	code := `import os
def handler(event):
    os.makedirs('a/b')
    open('a/b/c', 'w').close()
    os.chmod('a', 0)
    return [os.getcwd(), os.path.dirname(__file__)]`
	var folders []string
	require.NoError(t, json.Unmarshal([]byte(runOn(t.Context(), plain, function("python", code), `{}`).output(t)), &folders))
	for _, folder := range folders {
		require.Eventually(t, func() bool {
			_, err := os.Stat(folder)
			return os.IsNotExist(err)
		}, 5*time.Second, 10*time.Millisecond)
	}
}

func TestAFolderOfADeadServerIsRemovedAndOneOfALivingIsNot(t *testing.T) {
	makeDir := func(prefix string, age time.Duration) string {
		folder, err := os.MkdirTemp("", prefix)
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(folder) })
		require.NoError(t, os.Chtimes(folder, time.Now().Add(-age), time.Now().Add(-age)))
		return folder
	}
	dead, deadBefore, starting := makeDir(workspacePrefix, 0), makeDir(startingPrefix, time.Hour), makeDir(startingPrefix, 0)
	living, err := newWorkspaces()
	require.NoError(t, err)
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(living.root, old, old))
	removeDeadWorkspaces()
	require.NoDirExists(t, dead, "although it is young: there may be code of an account in it that was erased")
	require.NoDirExists(t, deadBefore)
	require.DirExists(t, starting)
	require.DirExists(t, living.root)
	require.NoError(t, living.close())
	require.NoDirExists(t, living.root)
}

func TestWhatGoesWrongInsideIsForTheServersLogAlone(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	r, err := NewPool(PoolConfig{
		Driver: runner.config.Driver, Runtimes: runner.config.Runtimes, Stems: -1, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	require.NoError(t, err)
	require.NoError(t, r.launcher.workspaces.close())
	defer r.Close()
	f := function("python", "x = 1")
	failure, ok := r.Run(t.Context(), Invocation{Function: f}, nil).(domain.ExecutionFailed)
	require.True(t, ok)
	require.Equal(t, domain.ErrorInternal, failure.ErrorType)
	require.NotContains(t, failure.Error, workspacePrefix)
	require.Contains(t, logged.String(), "function="+f.ID.String())
	require.Contains(t, logged.String(), workspacePrefix)
}

// withoutEgress is a driver that cannot give egress on this host.
type withoutEgress struct{ sandbox.Driver }

func (d withoutEgress) Enforcement() sandbox.Enforcement {
	enforced := d.Driver.Enforcement()
	enforced.Network = map[string]sandbox.Strength{"none": sandbox.Hard, "egress": sandbox.Not}
	return enforced
}

func TestWhereTheInternetCannotBeGivenSafelyAskingForItFails(t *testing.T) {
	t.Parallel()
	config := runner.config
	config.Driver, config.Stems = withoutEgress{runner.config.Driver}, -1
	pool, err := NewPool(config)
	require.NoError(t, err)
	defer func() { require.NoError(t, pool.Close()) }()
	f := function("python", "def handler(event):\n    return 1")
	require.Equal(t, "1", runOn(t.Context(), pool, f, `{}`).output(t))
	f.Network = domain.NetworkEgress
	failure := runOn(t.Context(), pool, f, `{}`).failure(t)
	require.Equal(t, domain.ErrorRuntimeUnavailable, failure.ErrorType)
	require.Contains(t, failure.Error, `Set the function's network to "none"`)
}

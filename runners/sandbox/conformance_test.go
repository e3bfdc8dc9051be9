//go:build linux

package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What every driver promises, tried with real processes. The scripts are for /bin/sh, which every sandbox has; what an
// interpreter sees more is tried by the suite of hostile handlers.

// patience is how long anything here may take on a busy machine.
const patience = 20 * time.Second

// testLimits are enough for a shell and a few tools.
var testLimits = Limits{MemoryMB: 128, TmpMB: 8, Processes: 64, OpenFiles: 64, FileMB: 4}

// driversUnderTest are all that there are, by name.
var driversUnderTest = func() map[string]func() (Driver, error) {
	drivers := map[string]func() (Driver, error){}
	for _, c := range candidates() {
		if c.name != "oci" { // each of its runtimes is one
			drivers[c.name] = func() (Driver, error) { return c.open(context.Background(), Options{}) }
		}
	}
	return drivers
}()

func onEachDriver(t *testing.T, test func(t *testing.T, d Driver)) {
	t.Helper()
	t.Parallel()
	for name, open := range driversUnderTest {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, openDriver(t, open))
		})
	}
}

func onEachNamespaceDriver(t *testing.T, test func(t *testing.T, d Driver)) {
	t.Helper()
	onEachDriver(t, func(t *testing.T, d Driver) {
		if d.Enforcement().Level != LevelNamespace {
			t.Skip("only a driver with namespaces promises this")
		}
		test(t, d)
	})
}

func openDriver(t *testing.T, open func() (Driver, error)) Driver {
	t.Helper()
	d, err := open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// startShell starts a script that may use "$@".
func startShell(t *testing.T, d Driver, script string, args ...string) Instance {
	t.Helper()
	return startSpec(t, d, Spec{Argv: append([]string{"/bin/sh", "-c", script, "sh"}, args...), Env: []string{"PATH=/usr/bin:/bin"}, Limits: testLimits})
}

func startSpec(t *testing.T, d Driver, spec Spec) Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	i, err := d.Start(ctx, spec)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, i.Close()) })
	for _, f := range []*os.File{i.Answers(), i.Stdout(), i.Stderr(), i.Requests()} {
		require.NoError(t, f.SetDeadline(time.Now().Add(patience)))
	}
	return i
}

// run returns what a script printed and how it ended.
func run(t *testing.T, d Driver, script string, args ...string) (string, Exit) {
	t.Helper()
	i := startShell(t, d, script+" 2>&1", args...)
	out, err := io.ReadAll(i.Stdout())
	require.NoError(t, err)
	awaitDone(t, i)
	return strings.TrimSpace(string(out)), i.Exit()
}

func awaitDone(t *testing.T, i Instance) {
	t.Helper()
	select {
	case <-i.Done():
	case <-time.After(patience):
		t.Fatal("the instance should be over")
	}
}

// awaitLine waits until a script has printed one line.
func awaitLine(t *testing.T, from io.Reader) string {
	t.Helper()
	line, err := bufio.NewReaderSize(from, 16).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

func TestTheDescriptorsAreTheServers(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		i := startShell(t, d, `read -r question <&3; echo "answer to $question" >&4; echo out; echo err >&2; wc -c; set -- /proc/self/fd/*; echo $#`)
		_, err := i.Requests().WriteString("a question\n")
		require.NoError(t, err)
		require.Equal(t, "answer to a question", awaitLine(t, i.Answers()))
		out, err := io.ReadAll(i.Stdout())
		require.NoError(t, err)
		require.Equal(t, []string{"out", "0", "6"}, strings.Fields(string(out)), "standard input is empty, and there are 0 to 4 and the folder that is read")
		err2, err := io.ReadAll(i.Stderr())
		require.NoError(t, err)
		require.Equal(t, "err\n", string(err2))
	})
}

func TestAnAnswerEndsWithItsProcess(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		i := startShell(t, d, `printf 'half' >&4; exit 3`)
		answer, err := io.ReadAll(i.Answers())
		require.NoError(t, err)
		require.Equal(t, "half", string(answer))
		awaitDone(t, i)
		require.Equal(t, 3, i.Exit().Code)
	})
}

func TestAProgramSeesTheEnvironmentItIsGivenAndNoOther(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		i := startSpec(t, d, Spec{Argv: []string{"/usr/bin/env"}, Env: []string{"PATH=/usr/bin", "GREETING=a=b c"}, Limits: testLimits})
		out, err := io.ReadAll(i.Stdout())
		require.NoError(t, err)
		seen := map[string]string{}
		for line := range strings.Lines(string(out)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			seen[name] = value
		}
		require.Equal(t, "a=b c", seen["GREETING"])
		require.NotEmpty(t, seen["HOME"])
		require.Equal(t, seen["HOME"], seen["TMPDIR"])
		for _, name := range []string{"PATH", "GREETING", "HOME", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"} {
			delete(seen, name)
		}
		require.Empty(t, seen)
	})
}

func TestAVariableCannotAddToBubblewrapsArguments(t *testing.T) {
	t.Parallel()
	d := openDriver(t, driversUnderTest["bwrap"])
	_, err := d.Start(t.Context(), Spec{Argv: []string{"/bin/true"}, Env: []string{"A=\x00--bind\x00/\x00/"}, Limits: testLimits})
	require.ErrorContains(t, err, "NUL")
}

func TestAProgramStartsInItsFolderForTemporaryFiles(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		out, exit := run(t, d, `[ "$PWD" = "$HOME" ] && echo content > file && cat "$TMPDIR/file" && ls -A`)
		require.Equal(t, "content\nfile", out)
		require.Zero(t, exit.Code)
	})
}

func TestExitsAndSignalsAreToldApart(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		for script, want := range map[string]Exit{
			`exit 0`: {}, `exit 7`: {Code: 7}, `kill -TERM $$`: {Code: 143, Signal: 15}, `kill -SEGV $$`: {Code: 139, Signal: 11},
		} {
			_, exit := run(t, d, script)
			exit.Usage = Usage{}
			require.Equal(t, want, exit, script)
		}
	})
}

func TestAProgramThatIsNotThereIsSaid(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		i := startSpec(t, d, Spec{Argv: []string{"/nowhere/program"}, Limits: testLimits})
		awaitDone(t, i)
		require.Equal(t, 127, i.Exit().Code)
	})
}

// mountable is a folder that any user of this host can read, which the drivers without paths of their own need.
func mountable(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/var/tmp", "voltrun-mount-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	require.NoError(t, os.Chmod(folder, 0o755))
	return folder
}

func TestWhatIsPutIntoAMountLaterIsSeenButCannotBeChanged(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		source := mountable(t)
		target := source
		if d.OwnPaths() {
			target = "/slots/code/here"
		}
		i := startSpec(t, d, Spec{
			Argv: []string{"/bin/sh", "-c", `read -r _ <&3; cat "$1/code.js"; touch "$1/mine" 2>/dev/null || echo refused`, "sh", target},
			Env:  []string{"PATH=/usr/bin:/bin"}, Mounts: []Mount{{Source: source, Target: target}}, Limits: testLimits,
		})
		require.NoError(t, os.WriteFile(filepath.Join(source, "code.js"), []byte("later\n"), 0o644))
		_, err := i.Requests().WriteString("go\n")
		require.NoError(t, err)
		out, err := io.ReadAll(i.Stdout())
		require.NoError(t, err)
		if os.Geteuid() == 0 || d.OwnPaths() { // else the folder is the program's own
			require.Equal(t, "later\nrefused\n", string(out))
		}
	})
}

func TestOnlyTheFolderForTemporaryFilesCanBeWrittenTo(t *testing.T) {
	onEachNamespaceDriver(t, func(t *testing.T, d Driver) {
		out, _ := run(t, d, `for f in / /etc /usr /usr/bin /dev /proc /proc/sys/kernel /bin /var /root; do (: > $f/written) 2>/dev/null && echo wrote to $f; done; touch /tmp/a /dev/shm/b && echo ok`)
		require.Equal(t, "ok", out)
	})
}

func TestTemporaryFilesAreBounded(t *testing.T) {
	onEachNamespaceDriver(t, func(t *testing.T, d Driver) {
		script := `for f in /tmp/1 /tmp/2 /tmp/3 /tmp/4; do head -c 3000000 /dev/zero > $f || break; done; du -sk /tmp | cut -f1; head -c 90000000 /dev/zero > /dev/shm/x; du -sk /dev/shm | cut -f1`
		i := startSpec(t, d, Spec{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"},
			Limits: Limits{MemoryMB: 128, TmpMB: 8, Processes: 64, OpenFiles: 64, FileMB: 1000}})
		out, err := io.ReadAll(i.Stdout())
		require.NoError(t, err)
		var tmp, shm int
		_, err = fmt.Sscan(string(out), &tmp, &shm)
		require.NoError(t, err)
		require.InDelta(t, 8<<10, tmp, 100)
		require.InDelta(t, shmBytes>>10, shm, 100)
	})
}

func TestFilesAndDescriptorsAreBounded(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		out, _ := run(t, d, `ulimit -n; ulimit -c; head -c 9000000 /dev/zero > big; stat -c %s big`)
		require.Contains(t, out, "64\n0\n")
		require.True(t, strings.HasSuffix(out, fmt.Sprint(testLimits.FileMB<<20)), out)
	})
}

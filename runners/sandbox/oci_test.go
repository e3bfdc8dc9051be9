//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The runtimes that this host has are put to the tests of all drivers, but for gVisor: from the host, nothing that its
// programs do is seen.
func init() {
	for _, runtime := range []string{"crun", "runc"} {
		if path := runtimeHere(runtime); path != "" {
			driversUnderTest["oci "+runtime] = func() (Driver, error) { return NewOCI(context.Background(), path, nil) }
		}
	}
}

// runtimeHere returns what to start a runtime by, nothing when it is not installed. crun before 1.9 refuses hosts that have
// a controller in the unified tree beside those of cgroup v1: there it gets to see none.
func runtimeHere(runtime string) string {
	path, err := exec.LookPath(runtime)
	if err != nil {
		return ""
	}
	const unified = "/sys/fs/cgroup/unified"
	if controllers, err := os.ReadFile(unified + "/cgroup.controllers"); runtime != "crun" || err != nil || len(controllers) < 2 {
		return path
	}
	if os.Geteuid() != 0 {
		return ""
	}
	wrapper := filepath.Join(os.TempDir(), "voltrun-test-runtimes", runtime)
	script := "#!/bin/sh\nexec unshare --mount sh -c 'umount " + unified + ` && exec "$0" "$@"' ` + path + ` "$@"`
	mine := fmt.Sprint(wrapper, os.Getpid())
	if errors.Join(os.MkdirAll(filepath.Dir(wrapper), 0o700), os.WriteFile(mine, []byte(script), 0o700), os.Rename(mine, wrapper)) != nil {
		return ""
	}
	return wrapper
}

func TestEveryRuntimeThatDebianHasIsTested(t *testing.T) {
	t.Parallel()
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			if runtimeHere(runtime) == "" {
				t.Skipf("%s is not installed (package %s), or cannot run on this host", runtime, runtime)
			}
			require.Contains(t, driversUnderTest, "oci "+runtime)
		})
	}
}

func TestNoOCIRuntimeLetsAProberOut(t *testing.T) {
	t.Parallel()
	for _, runtime := range []string{"crun", "runc", "runsc"} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			path := runtimeHere(runtime)
			if path == "" {
				t.Skipf("%s is not installed, or cannot run on this host", runtime)
			}
			d, err := Choose(t.Context(), "oci", Options{OCIRuntime: path})
			require.NoError(t, err)
			require.NoError(t, d.Close())
		})
	}
}

// openGVisor opens the driver with runsc.
func openGVisor(t *testing.T) Driver {
	t.Helper()
	if runtimeHere("runsc") == "" {
		t.Skip("runsc is not installed (package runsc)")
	}
	return openDriver(t, func() (Driver, error) { return NewOCI(t.Context(), "runsc", nil) })
}

func TestGVisorAnswersLikeAnyOtherSandbox(t *testing.T) {
	t.Parallel()
	d, source := openGVisor(t), mountable(t)
	i := startSpec(t, d, Spec{
		Argv: []string{"/bin/sh", "-c", `read -r question <&3; echo "answer to $question" >&4; cat /code/late; echo $HOME; echo err >&2; touch /code/mine; wc -c; exit 7`},
		Env:  []string{"PATH=/usr/bin:/bin"}, Mounts: []Mount{{Source: source, Target: "/code"}}, Limits: testLimits,
	})
	require.NoError(t, os.WriteFile(filepath.Join(source, "late"), []byte("put there later\n"), 0o644))
	_, err := i.Requests().WriteString("a question\n")
	require.NoError(t, err)
	require.Equal(t, "answer to a question", awaitLine(t, i.Answers()))
	out, err := io.ReadAll(i.Stdout())
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 5, "%q", lines)
	require.Equal(t, []string{"put there later", "/tmp", "err"}, lines[:3])
	require.Contains(t, lines[3], "/code/mine")
	require.Equal(t, "0", lines[4])
	awaitDone(t, i)
	require.Equal(t, 7, i.Exit().Code)
}

func TestGVisorIsAKernelOfItsOwn(t *testing.T) {
	t.Parallel()
	d := openGVisor(t)
	require.Equal(t, LevelKernel, d.Enforcement().Level)
	version, _ := run(t, d, "cat /proc/version; cat /sys/fs/cgroup/cgroup.procs")
	require.Contains(t, version, "2016", "its /proc/version")
	host, err := os.ReadFile("/proc/version")
	require.NoError(t, err)
	require.NotContains(t, version, strings.Fields(string(host))[2])
}

func TestGVisorIsKilledWithEverythingInIt(t *testing.T) {
	t.Parallel()
	i := startShell(t, openGVisor(t), `sleep 1000 & (setsid sleep 1000 &) ; echo on; wait`)
	require.Equal(t, "on", awaitLine(t, i.Stdout()))
	require.Positive(t, i.Usage().MemoryBytes)
	i.Kill()
	awaitDone(t, i)
	require.Equal(t, 137, i.Exit().Code)
}

func TestGVisorEndsWhenItNeedsTooMuchMemory(t *testing.T) {
	t.Parallel()
	d := openGVisor(t)
	if _, err := os.Stat("/usr/bin/python3"); err != nil || d.Enforcement().Limits["memory"] != Hard {
		t.Skip("the memory of the whole tree is not bounded here, or the system has no python3 to fill it with")
	}
	_, exit := run(t, d, `/usr/bin/python3 -S -c 'b"x" * 300_000_000'; echo survived`)
	require.True(t, exit.OutOfMemory)
}

func TestBundlesOfAKilledServerAreRemovedByTheNext(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", statesPrefix)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "bundle-1", "root", "tmp"), 0o755))
	require.Eventually(t, func() bool {
		next, err := openStates(nil)
		require.NoError(t, err)
		require.NoError(t, next.close())
		_, err = os.Stat(folder)
		return os.IsNotExist(err)
	}, patience, time.Millisecond)
}

// reachesFrom tells what a program in a sandbox with access to the internet says to a connection.
func reachesFrom(t *testing.T, d Driver, address string) string {
	t.Helper()
	host, port, _ := strings.Cut(address, ":")
	i := startSpec(t, d, Spec{
		Argv: []string{"/usr/bin/python3", "-S", "-c", "import socket,sys\ntry: socket.create_connection((sys.argv[1],int(sys.argv[2])),3); print('open')\nexcept OSError as e: print(e.strerror)", host, port},
		Env:  []string{"PATH=/usr/bin:/bin"}, Limits: testLimits, Egress: true,
	})
	out, err := io.ReadAll(i.Stdout())
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

func TestThroughAnOCIRuntimeTheHostIsNotReachedEither(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("the system has no python3 to connect with")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, runtime := range []string{"crun", "runc", "runsc"} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			path := runtimeHere(runtime)
			if path == "" {
				t.Skipf("%s is not installed, or cannot run on this host", runtime)
			}
			d := openDriver(t, func() (Driver, error) { return NewOCI(t.Context(), path, nil) })
			if d.Enforcement().Network["egress"] != Hard {
				t.Skip(d.Enforcement().Notes)
			}
			require.Equal(t, "Connection refused", reachesFrom(t, d, "127.0.0.1:"+port))
			for _, address := range []string{"10.0.2.2:" + port, "169.254.169.254:80", "10.0.2.3:" + port} {
				require.Equal(t, "Permission denied", reachesFrom(t, d, address), address)
			}
		})
	}
}

func TestAnOCIRuntimeThatIsUnknownOrMissingIsSaid(t *testing.T) {
	t.Parallel()
	_, err := NewOCI(t.Context(), "docker", nil)
	require.ErrorContains(t, err, "known are crun, runc, runsc and krun")
	_, err = NewOCI(t.Context(), "/nowhere/crun", nil)
	require.ErrorContains(t, err, "/nowhere/crun is not installed")
}

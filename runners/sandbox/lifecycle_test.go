//go:build linux

package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// A process of a sandbox is found on the host by a number of seconds that nobody else sleeps.
var sleeps = func() func() string {
	next := make(chan string)
	go func() {
		for n := os.Getpid()*1000 + 100_000_000; ; n++ {
			next <- strconv.Itoa(n)
		}
	}()
	return func() string { return <-next }
}()

// sleeping counts the processes on the host that sleep for that long.
func sleeping(seconds string) int {
	n := 0
	killFound(func(folder string) bool {
		line, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		if string(line) == "sleep\x00"+seconds+"\x00" {
			n++
		}
		return false
	})
	return n
}

func awaitSleeping(t *testing.T, seconds string, count int) {
	t.Helper()
	require.Eventually(t, func() bool { return sleeping(seconds) == count }, patience, 5*time.Millisecond, "%d processes should sleep", count)
}

// daemons starts a child, one in a session of its own, and one whose parents are gone.
const daemons = `sleep "$1" & setsid sleep "$1" & (setsid sh -c 'sleep "$0" & exit' "$1" &) ; echo on; exec sleep "$1"`

func TestAKillEndsEverythingThatWasStarted(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		seconds := sleeps()
		i := startShell(t, d, daemons, seconds)
		require.Equal(t, "on", awaitLine(t, i.Stdout()))
		awaitSleeping(t, seconds, 4)
		i.Kill()
		awaitDone(t, i)
		require.Equal(t, int(syscall.SIGKILL), i.Exit().Signal)
		require.Equal(t, 137, i.Exit().Code)
		if d.Enforcement().Level == LevelNamespace {
			require.Zero(t, sleeping(seconds), "with the first process of a namespace all others are over")
		}
		require.NoError(t, i.Close())
		awaitSleeping(t, seconds, 0)
		i.Kill() // is allowed at any time
	})
}

func TestWithAProgramItsChildrenEnd(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		seconds := sleeps()
		i := startShell(t, d, `setsid sleep "$1" & echo on; exit 4`, seconds)
		require.Equal(t, "on", awaitLine(t, i.Stdout()))
		awaitDone(t, i)
		require.Equal(t, 4, i.Exit().Code)
		require.NoError(t, i.Close())
		awaitSleeping(t, seconds, 0)
	})
}

func TestAForkBombIsBoundedAndEnds(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		if d.Enforcement().Limits["processes"] == Not {
			t.Skip("nothing bounds the number of processes here")
		}
		seconds := sleeps()
		i := startShell(t, d, `bomb() { sleep "$1" & (bomb "$1") & bomb "$1"; }; echo on; bomb "$1" 2>/dev/null & read -r _ <&3`, seconds)
		require.Equal(t, "on", awaitLine(t, i.Stdout()))
		require.Eventually(t, func() bool { return sleeping(seconds) > 5 }, patience, 5*time.Millisecond)
		const launchers = 32 // as many may be the driver's own
		require.LessOrEqual(t, sleeping(seconds), testLimits.Processes+launchers)
		i.Kill()
		require.NoError(t, i.Close())
		awaitSleeping(t, seconds, 0)
	})
}

func TestProcessesBesideTheProgramAreCounted(t *testing.T) {
	onEachNamespaceDriver(t, func(t *testing.T, d Driver) {
		seconds := sleeps()
		i := startShell(t, d, `while read -r what <&3; do eval "$what"; echo done >&4; done`, seconds)
		tell := func(what string) {
			t.Helper()
			_, err := i.Requests().WriteString(what + "\n")
			require.NoError(t, err)
			require.Equal(t, "done", awaitLine(t, i.Answers()))
		}
		expect := func(count int) {
			t.Helper()
			require.Eventually(t, func() bool { n, err := i.Processes(); return err == nil && n == count }, patience, time.Millisecond)
		}
		tell(":")
		expect(0)
		tell(`sleep $1 & child=$!`)
		expect(1)
		tell(`(setsid sleep $1 &)`)
		expect(2)
		tell(`kill $child; wait $child`)
		expect(1)
	})
}

func TestWhatIsFrozenDoesNothingUntilItIsThawed(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		if !d.Enforcement().Freeze {
			t.Skip("nothing can be frozen here")
		}
		i := startShell(t, d, `while read -r _ <&3; do echo pong >&4; done`)
		ask := func() { _, err := i.Requests().WriteString("ping\n"); require.NoError(t, err) }
		ask()
		require.Equal(t, "pong", awaitLine(t, i.Answers()))
		require.NoError(t, i.Freeze(true))
		ask()
		require.NoError(t, i.Answers().SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := i.Answers().Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, i.Answers().SetReadDeadline(time.Now().Add(patience)))
		require.NoError(t, i.Freeze(false))
		require.Equal(t, "pong", awaitLine(t, i.Answers()))
		require.NoError(t, i.Freeze(true))
		i.Kill()
		awaitDone(t, i)
	})
}

func TestTooMuchMemoryIsToldFromAnyOtherEnd(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		if d.Enforcement().Limits["memory"] != Hard {
			t.Skip("the memory of the whole tree is not bounded here")
		}
		_, exit := run(t, d, `x=$(head -c 200000000 /dev/zero | tr '\0' x); echo survived`)
		require.True(t, exit.OutOfMemory)
		require.Greater(t, exit.Usage.PeakBytes, int64(testLimits.MemoryMB)<<20*9/10)
		_, exit = run(t, d, `kill -KILL $$`)
		require.False(t, exit.OutOfMemory)
		require.Equal(t, 137, exit.Code)
	})
}

func TestManyStartAtOnce(t *testing.T) {
	onEachNamespaceDriver(t, func(t *testing.T, d Driver) {
		var starts errgroup.Group
		for n := range 24 {
			starts.Go(func() error {
				i, err := d.Start(t.Context(), Spec{Argv: []string{"/bin/sh", "-c", "exit " + strconv.Itoa(n)}, Limits: testLimits})
				if err != nil {
					return err
				}
				if code := i.Exit().Code; code != n {
					err = fmt.Errorf("code %d of %d", code, n)
				}
				return errors.Join(err, i.Close())
			})
		}
		require.NoError(t, starts.Wait())
	})
}

func TestAStartEndsWithItsContext(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		seconds := sleeps()
		i, err := d.Start(ctx, Spec{Argv: []string{"/bin/sh", "-c", "sleep " + seconds}, Limits: testLimits})
		if err == nil { // it may have been faster
			require.NoError(t, i.Close())
		}
		awaitSleeping(t, seconds, 0)
	})
}

// openDescriptors counts this process's own, without those of the runtime that come and go.
func openDescriptors(t *testing.T) int {
	t.Helper()
	open, err := names("/proc/self/fd")
	require.NoError(t, err)
	return len(open)
}

// TestNothingIsLeftOfAnInstance runs alone, because it counts what this whole process holds.
func TestNothingIsLeftOfAnInstance(t *testing.T) {
	t.Setenv("TMPDIR", mountable(t))
	for name, open := range driversUnderTest {
		t.Run(name, func(t *testing.T) {
			d := openDriver(t, open)
			cycle := func() {
				i := startShell(t, d, `read -r _ <&3; exit`)
				i.Kill()
				require.NoError(t, i.Close())
			}
			cycle()
			descriptors, goroutines, mounts, folders := openDescriptors(t), runtime.NumGoroutine(), mountCount(t), temporaryFolders(t)
			for range 20 {
				cycle()
			}
			require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+1 }, patience, time.Millisecond) // and this one
			require.LessOrEqual(t, openDescriptors(t), descriptors)
			require.Equal(t, mounts, mountCount(t))
			require.Equal(t, folders, temporaryFolders(t))
		})
	}
}

func mountCount(t *testing.T) int {
	t.Helper()
	list, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	return strings.Count(string(list), "\n")
}

func temporaryFolders(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "voltrun-*", "*"))
	require.NoError(t, err)
	return len(found)
}

// serverVariable makes this test binary a server that starts one instance and waits to be killed.
const serverVariable = "VOLTRUN_TEST_SERVER"

func TestMain(m *testing.M) {
	if name := os.Getenv(serverVariable); name != "" {
		serveOne(name)
	}
	if addresses := os.Getenv(dialVariable); addresses != "" {
		dialAll(addresses)
	}
	os.Exit(m.Run())
}

func serveOne(name string) {
	d, err := driversUnderTest[name]()
	if err == nil {
		_, err = d.Start(context.Background(), Spec{
			Argv: []string{"/bin/sh", "-c", daemons + " 1>&4", "sh", os.Getenv(serverVariable + "_SLEEPS")},
			Env:  []string{"PATH=/usr/bin:/bin"}, Limits: testLimits,
		})
	}
	fmt.Println(err)
	select {}
}

func TestAKilledServerLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	for name, open := range driversUnderTest {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespaces := openDriver(t, open).Enforcement().Level == LevelNamespace
			seconds := sleeps()
			server := exec.Command(os.Args[0])
			server.Env = append(os.Environ(), serverVariable+"="+name, serverVariable+"_SLEEPS="+seconds)
			out, err := server.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, server.Start())
			t.Cleanup(func() { _ = server.Process.Kill() })
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "<nil>\n", line)
			awaitSleeping(t, seconds, 4)
			require.NoError(t, server.Process.Kill())
			_, _ = io.Copy(io.Discard, out)
			_ = server.Wait()
			if namespaces {
				awaitSleeping(t, seconds, 0)
			} else { // what has left its parents waits for the next server that uses its user
				require.Eventually(t, func() bool { return sleeping(seconds) <= 3 }, patience, 5*time.Millisecond)
				endSleeping(seconds)
			}
		})
	}
}

func endSleeping(seconds string) {
	killFound(func(folder string) bool {
		line, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		return strings.HasSuffix(string(line), "\x00"+seconds+"\x00")
	})
}

func TestTheUserOfALivingInstanceIsNobodyElses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run functions as somebody else")
	}
	onEachDriver(t, func(t *testing.T, d Driver) {
		taken := map[string]bool{}
		for range 3 {
			i := startShell(t, d, `id -u >&4; read -r _ <&3`)
			uid := awaitLine(t, i.Answers())
			require.False(t, taken[uid], uid)
			taken[uid] = true
		}
	})
}

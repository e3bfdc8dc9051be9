package sandbox

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// openUsersAt opens users that no server on this host has, with a register of their own.
func openUsersAt(t *testing.T, register string, first, count int) *users {
	t.Helper()
	u, err := newUsers(register, first, count)
	require.NoError(t, err)
	t.Cleanup(u.close)
	return u
}

func TestNoTwoRunsHaveTheSameUser(t *testing.T) {
	t.Parallel()
	register := filepath.Join(t.TempDir(), userRegister)
	ours, theirs := openUsersAt(t, register, 60_710, 4), openUsersAt(t, register, 60_710, 4)
	taken := map[uint32]bool{}
	for range 2 {
		for _, server := range []*users{ours, theirs} {
			as, err := server.take(t.Context())
			require.NoError(t, err)
			require.False(t, taken[as.Uid], "%d is taken", as.Uid)
			taken[as.Uid] = true
		}
	}
	require.Len(t, taken, 4)
}

func TestAnAccountOfTheHostIsNoFunctionsUser(t *testing.T) {
	t.Parallel()
	u := openUsersAt(t, filepath.Join(t.TempDir(), userRegister), 0, 1) // root
	ctx, cancel := context.WithTimeout(t.Context(), 3*otherServersPause)
	defer cancel()
	_, err := u.take(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestARunWaitsUntilAUserIsFree(t *testing.T) {
	t.Parallel()
	u := openUsersAt(t, filepath.Join(t.TempDir(), userRegister), 60_714, 1)
	first, err := u.take(t.Context())
	require.NoError(t, err)

	hopeless, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = u.take(hopeless)
	require.ErrorIs(t, err, context.Canceled)

	second := make(chan uint32)
	go func() {
		as, _ := u.take(context.Background())
		second <- as.Uid
	}()
	u.giveBack(first)
	require.Equal(t, first.Uid, <-second)
}

// startAs starts a shell script as another user and waits until it has printed a line. It returns what is closed when
// the script is over.
func startAs(t *testing.T, as *syscall.Credential, script string) <-chan struct{} {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: as}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_, err = bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	over := make(chan struct{})
	go func() { _ = cmd.Wait(); close(over) }()
	return over
}

func awaitClosed(t *testing.T, over <-chan struct{}) {
	t.Helper()
	select {
	case <-over:
	case <-time.After(5 * time.Second):
		t.Fatal("the process should be over")
	}
}

func TestAUsersProcessesCannotDefendThemselves(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run functions as somebody else")
	}
	as := &syscall.Credential{Uid: 60_715, Gid: 60_715}
	over := startAs(t, as, "echo on; while :; do kill -STOP -1; done")
	require.NoError(t, endUser(as))
	awaitClosed(t, over)
}

func TestWhatADeadServerLeftRunningEndsBeforeItsUserIsUsedAgain(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run functions as somebody else")
	}
	register := filepath.Join(t.TempDir(), userRegister)
	dead := openUsersAt(t, register, 60_716, 1)
	as, err := dead.take(t.Context())
	require.NoError(t, err)
	over := startAs(t, as, "echo on; sleep 7788")
	dead.close()

	again, err := openUsersAt(t, register, 60_716, 1).take(t.Context())
	require.NoError(t, err)
	require.Equal(t, as, again)
	awaitClosed(t, over)
}

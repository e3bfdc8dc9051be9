package privatepg

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKilledPostgresIsHealedAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t)})
	query(t, s.DSN(), "create table kept (n int)")
	for n := range 3 {
		query(t, s.DSN(), "insert into kept values ($1)", n)
		killed := s.PID()
		began := time.Now()
		require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
		require.Eventually(t, func() bool {
			_, err := tryQuery(t.Context(), s.DSN(), "select 1")
			return err == nil && s.PID() != killed
		}, 15*time.Second, 5*time.Millisecond)
		t.Logf("healed after %v", time.Since(began))
		require.Equal(t, fmt.Sprint(n+1), query(t, s.DSN(), "select count(*) from kept"))
	}
}

func TestStopWinsOverHealing(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t)})
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGKILL))
	stop(t, s)
	require.Eventually(t, func() bool { return len(serversIn(s.cluster.dir())) == 0 }, 5*time.Second, 5*time.Millisecond)
	again := start(t, Config{DataDir: s.cluster.dataDir})
	require.Equal(t, "1", query(t, again.DSN(), "select 1"))
}

func TestStartAfterKillOfTheParentWorksByItself(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	for n := range 3 {
		h := startHelper(t, dir, 0)
		require.Empty(t, h.Error)
		query(t, h.DSN, fmt.Sprintf("create table round_%d ()", n))
		h.kill(t)
		began := time.Now()
		s := start(t, Config{DataDir: dir})
		t.Logf("up again %v after the kill: %s", time.Since(began), s.Info().Kind)
		require.Equal(t, fmt.Sprint(n+1), query(t, s.DSN(), "select count(*) from pg_tables where tablename like 'round_%'"))
		stop(t, s)
	}
}

func TestPostgresEndsWithItsParent(t *testing.T) {
	t.Parallel()
	h := startHelper(t, openDir(t), 0)
	require.Empty(t, h.Error)
	h.kill(t)
	require.Eventually(t, func() bool {
		_, err := tryQuery(t.Context(), h.DSN, "select 1")
		return err != nil
	}, 10*time.Second, 5*time.Millisecond)
}

func TestStartAfterKillOfParentAndPostgresRecovers(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	h := startHelper(t, dir, 0)
	require.Empty(t, h.Error)
	query(t, h.DSN, "create table kept as select 7 as n")
	require.NoError(t, h.cmd.Process.Signal(syscall.SIGSTOP)) // so that it cannot heal what dies next
	require.NoError(t, syscall.Kill(h.PID, syscall.SIGKILL))
	h.kill(t)
	s := start(t, Config{DataDir: dir})
	require.Equal(t, Recovered, s.Info().Kind)
	require.Equal(t, "7", query(t, s.DSN(), "select n from kept"))
}

func TestStartWorksWhateverMomentTheLastOneWasKilledAt(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	for delay := range 8 {
		h := launchHelper(t, dir, 0)
		time.Sleep(time.Duration(delay) * 60 * time.Millisecond) // a moment of initdb, later of the start
		h.kill(t)
	}
	s := start(t, Config{DataDir: dir})
	query(t, s.DSN(), "create table kept ()")
	stop(t, s)
	for delay := range 8 {
		h := launchHelper(t, dir, 0)
		time.Sleep(time.Duration(delay) * 10 * time.Millisecond) // a moment of the restart
		h.kill(t)
	}
	require.Equal(t, "0", query(t, start(t, Config{DataDir: dir}).DSN(), "select count(*) from kept"))
}

func TestTerminalInterruptDoesNotReachPostgres(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t)})
	group, err := syscall.Getpgid(s.PID())
	require.NoError(t, err)
	require.NotEqual(t, syscall.Getpgrp(), group)
}

func TestStalePIDFileIsClearedAway(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t)})
	pidFile := s.cluster.postmasterFile()
	content, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	stop(t, s)

	dead := exec.Command("true")
	require.NoError(t, dead.Run())
	recycled := exec.Command("sleep", "60") // of the very user that Postgres runs as
	s.cluster.account.prepare(recycled)
	require.NoError(t, recycled.Start())
	t.Cleanup(func() { _ = recycled.Process.Kill(); _ = recycled.Wait() })
	zombie := exec.Command("true")
	s.cluster.account.prepare(zombie)
	require.NoError(t, zombie.Start())
	t.Cleanup(func() { _ = zombie.Wait() })

	for name, pid := range map[string]int{"dead": dead.Process.Pid, "recycled": recycled.Process.Pid, "zombie": zombie.Process.Pid} {
		old := s.PID()
		stale := append([]byte(fmt.Sprint(pid)), content[len(fmt.Sprint(old)):]...)
		socketLock := filepath.Join(s.cluster.socketDir, ".s.PGSQL.54321.lock")
		require.NoError(t, os.Mkdir(s.cluster.socketDir, 0o700))
		for _, file := range []string{pidFile, socketLock} {
			require.NoError(t, os.WriteFile(file, stale, 0o600))
			require.NoError(t, os.Chown(file, s.cluster.account.uid, s.cluster.account.gid))
		}
		again := start(t, Config{DataDir: s.cluster.dataDir})
		require.Equal(t, "1", query(t, again.DSN(), "select 1"), name)
		stop(t, again)
	}
	require.NoError(t, recycled.Process.Signal(syscall.Signal(0)), "the process that got the pid must live on")
}

func TestOrphanedPostgresIsShutDownBeforeTheNextStart(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t)})
	stop(t, s)
	require.NoError(t, os.Mkdir(s.cluster.socketDir, 0o700))
	require.NoError(t, os.Chown(s.cluster.socketDir, s.cluster.account.uid, s.cluster.account.gid))
	orphan := exec.Command(s.cluster.binaries.program("postgres"), s.arguments()...)
	orphan.Dir = s.cluster.dataDir
	s.cluster.account.prepare(orphan)
	require.NoError(t, orphan.Start())
	exited := make(chan error, 1)
	go func() { exited <- orphan.Wait() }()
	require.Eventually(t, func() bool {
		return readPostmasterFile(s.cluster.postmasterFile()).status == "ready"
	}, 10*time.Second, 5*time.Millisecond)

	again := start(t, Config{DataDir: s.cluster.dataDir})
	require.NoError(t, <-exited)
	require.Equal(t, Restarted, again.Info().Kind)
	require.Equal(t, "1", query(t, again.DSN(), "select 1"))
}

func TestHalfMadeClusterOfAKilledStartIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ".initdb-123", "base"), 0o700))
	s := start(t, Config{DataDir: dir})
	require.Equal(t, Initialised, s.Info().Kind)
	require.NoDirExists(t, filepath.Join(dir, ".initdb-123"))
}

func TestFailedStartQuotesTheReason(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	_, err := Start(t.Context(), Config{DataDir: dir, Settings: map[string]string{"no_such_setting": "1"}})
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
	require.Equal(t, "1", query(t, start(t, Config{DataDir: dir}).DSN(), "select 1"), "a failed start must release the folder")
}

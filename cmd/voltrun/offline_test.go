package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hold starts a command on a data folder without a server, and stops it in the middle with the folder in its hands.
// release lets it go on and returns its end.
func (s *server) hold(t *testing.T, args ...string) (release func() error, out *output) {
	t.Helper()
	cmd, out := s.command(t, args...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	require.Eventually(t, func() bool {
		content, _ := os.ReadFile(filepath.Join(s.dataDir, "postgres.lock"))
		return string(content) == fmt.Sprintf("%d\nvoltrun %s\n", cmd.Process.Pid, strings.Join(args, " "))
	}, time.Minute, time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	return func() error {
		require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
		return cmd.Wait()
	}, out
}

func TestAServerAndACommandWaitForTheCommandThatHasTheDataFolder(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	require.NoError(t, s.stop(t))
	release, out := s.hold(t, "projections", "verify")

	second, waiting := s.command(t, "keys", "status")
	require.NoError(t, second.Start())
	s.launch(t, "serve")
	require.Eventually(t, func() bool {
		return strings.Contains(waiting.String(), "Waiting for voltrun projections verify (process ") &&
			strings.Contains(s.output.String(), `command="voltrun projections verify" pid=`)
	}, time.Minute, time.Millisecond)
	require.NotContains(t, waiting.String(), "MASTER KEY")
	require.NotContains(t, s.output.String(), "is ready")

	require.NoError(t, release(), out)
	require.Contains(t, out.String(), "as the log says")
	require.NoError(t, second.Wait(), waiting)
	require.Contains(t, waiting.String(), "MASTER KEY")
	s.awaitHealthy(t)
}

func TestACommandWhoseServerStopsSaysSo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	reader, err := s.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "lock table keys")
	require.NoError(t, err)
	cmd, out := s.command(t, "projections", "rebuild", "keys")
	require.NoError(t, cmd.Start())
	s.awaitFilling(t, "rebuild_keys")
	require.NoError(t, s.stop(t))
	require.Error(t, cmd.Wait())
	require.Equal(t, exitFailure, cmd.ProcessState.ExitCode())
	require.Contains(t, out.String(), "the server of "+s.dataDir+" was stopped")
	require.NotContains(t, out.String(), "SQLSTATE")
}

// awaitFilling returns when a rebuild has made its schema.
func (s *server) awaitFilling(t *testing.T, schema string) {
	t.Helper()
	conn := s.connect(t)
	require.Eventually(t, func() bool {
		var there bool
		err := conn.QueryRow(context.Background(), "select exists (select from pg_namespace where nspname = $1)", schema).Scan(&there)
		return err == nil && there
	}, time.Minute, time.Millisecond)
}

func TestCtrlCEndsACommandCalmlyAtAnyMoment(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	s.appendLines(t, pastLines)
	commands := [][]string{
		{"projections", "rebuild", "--all"}, {"projections", "verify"}, {"keys", "rotate"}, {"audit", "verify"}, {"archive"},
		{"export", filepath.Join(t.TempDir(), "export")},
	}
	moments := []time.Duration{20, 60, 120, 250, 500}
	check := func() {
		interrupted := 0
		for i, args := range commands {
			for _, moment := range moments {
				cmd, out := s.command(t, args...)
				if s.interrupt(t, cmd, out, moment*time.Millisecond+time.Duration(i)*7*time.Millisecond) {
					interrupted++
				}
				_ = os.Remove(commands[5][1])
			}
		}
		require.Greater(t, interrupted, len(commands))
	}
	check()
	require.NoError(t, s.stop(t))
	check()
	s.start(t)
	require.NotContains(t, s.run(t, "projections", "verify"), "DIFFERENT")
}

// interrupt is Ctrl-C so long after a command was started. It tells whether that was before its end.
func (s *server) interrupt(t *testing.T, cmd *exec.Cmd, out *output, after time.Duration) bool {
	t.Helper()
	require.NoError(t, cmd.Start())
	time.Sleep(after)
	_ = cmd.Process.Signal(os.Interrupt) // it may be done
	err := cmd.Wait()
	if err == nil {
		return false
	}
	var ended *exec.ExitError
	require.True(t, errors.As(err, &ended))
	if status := ended.Sys().(syscall.WaitStatus); status.Signaled() {
		require.Equal(t, syscall.SIGINT, status.Signal(), "it had hardly begun")
		return true
	}
	require.Equal(t, exitInterrupted, ended.ExitCode(), "%v after %s: %s", cmd.Args, after, out)
	require.Contains(t, out.String(), "interrupted")
	for _, internal := range []string{"context canceled", "SQLSTATE", "dial", "connect"} {
		require.NotContains(t, out.String(), internal, "%v after %s", cmd.Args, after)
	}
	return true
}

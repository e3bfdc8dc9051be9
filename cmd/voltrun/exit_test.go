package main

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMisuseIsToldFromFailureAndNamesTheHelp(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, c := range []struct {
		call, says string
		code       int
	}{
		{"", "voltrun: say which command", exitUsage},
		{"projectoins", `there is no command "projectoins"; did you mean "projections"?`, exitUsage},
		{"projections nothing", "voltrun projections --help tells more", exitUsage},
		{"help nothing", `there is no command "nothing"`, exitUsage},
		{"serve now", "1 argument given; call it as: voltrun serve", exitUsage},
		{"serve --fast", "unknown flag: --fast", exitUsage},
		{"export", "something is missing; call it as: voltrun export FILE", exitUsage},
		{"projections rebuild", "there are accounts, functions, executions, keys", exitUsage},
		{"projections verify nothing", `there is no projection "nothing"`, exitUsage},
		{"archive --older-than x", "30d or 12h", exitUsage},
		{"projections verify", "there is no VoltRun in the data folder " + s.dataDir, exitFailure},
		{"projections status", "no VoltRun server answers at " + s.url(), exitFailure},
		{"demo --url nowhere", `"nowhere" is not the address of a server`, exitFailure},
		{"help keys rotate", "Make a new master key", exitOK},
		{"completion bash", "bash completion", exitOK},
	} {
		cmd, out := s.command(t, strings.Fields(c.call)...)
		_ = cmd.Run() // the exit code tells
		require.Equal(t, c.code, cmd.ProcessState.ExitCode(), "%s: %s", c.call, out)
		require.Contains(t, out.String(), c.says)
	}
}

func TestAnEnvironmentThatIsWrongIsNamedWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	for variable, says := range map[string]string{
		"PORT=0":              "PORT must be a number from 1 to 65535",
		"DATABASE_URL=canary": "DATABASE_URL cannot be read: it must be a keyword string",
		"DATABASE_URL=postgres://me:can/ary@localhost/db": "postgres://voltrun@db.example.com/voltrun",
		"VOLTRUN_MASTER_KEY=canary":                       "VOLTRUN_MASTER_KEY",
	} {
		s := newServer(t, variable)
		for _, args := range [][]string{{"serve"}, {"keys", "status"}} {
			cmd, out := s.command(t, args...)
			require.Error(t, cmd.Run())
			require.Equal(t, exitUsage, cmd.ProcessState.ExitCode(), "%s: %s", variable, out)
			require.Contains(t, out.String(), says)
			require.NotContains(t, out.String(), "can/ary")
			require.NotContains(t, out.String(), ":can")
		}
	}
}

func TestAPostgresThatDoesNotAnswerIsNamedInOneLine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.env = []string{"DATABASE_URL=postgres://me:canary@localhost:1/db"}
	for _, args := range [][]string{{"serve"}, {"keys", "status"}} {
		cmd, out := s.command(t, args...)
		require.Error(t, cmd.Run())
		require.Equal(t, exitFailure, cmd.ProcessState.ExitCode())
		require.Contains(t, out.String(), "no Postgres answers at localhost:1: connection refused")
		require.Equal(t, 1, strings.Count(out.String(), "\n"), out)
		require.NotContains(t, out.String(), "canary")
	}
}

func TestASecondCtrlCEndsTheServerAtOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c := s.register(t)
	function := c.createFunction(t, "python", "import time, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndef handler(event):\n    time.sleep(600)\n")
	_, err := c.execute(t.Context(), function, nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var running []execution
		c.must(t, http.StatusOK, "GET", "/api/executions?status=running", nil, &running)
		return len(running) == 1
	}, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, s.process.Process.Signal(os.Interrupt))
	require.Eventually(t, func() bool { return strings.Contains(s.output.String(), "Ctrl-C again") }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.process.Process.Signal(os.Interrupt))
	<-s.exited
	ended := s.process.ProcessState
	s.process = nil
	require.Equal(t, syscall.SIGINT, ended.Sys().(syscall.WaitStatus).Signal())
	require.NotContains(t, s.output.String(), "Stopped.")
	s.start(t) // and the next start recovers
}

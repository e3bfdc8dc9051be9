package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// slowPrinter prints three lines, the last one to stderr and with an escape sequence, and takes its time in between.
const slowPrinter = `
import sys, time
def handler(event):
    print("first", flush=True)
    time.sleep(0.6)
    print("second", flush=True)
    time.sleep(0.6)
    print("\x1b[2J third", file=sys.stderr, flush=True)
    return {"sum": event["a"] + 1}
`

// replay runs `voltrun replay` as somebody who has a key.
func (s *server) replay(t *testing.T, key string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, append([]string{"replay", "--url", s.url()}, args...)...)
	cmd.Env = append(os.Environ(), asServer+"=1", "VOLTRUN_API_KEY="+key)
	return cmd
}

func TestAnExecutionIsReplayedAsItHappened(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c := s.register(t)
	function := c.createFunction(t, "python", slowPrinter)
	id, err := c.execute(context.Background(), function, map[string]int{"a": 41})
	require.NoError(t, err)
	c.awaitEnd(t, id)

	began := time.Now()
	told, err := s.replay(t, c.bearer, id.String(), "--speed", "0").Output()
	require.NoError(t, err)
	require.Less(t, time.Since(began), 1200*time.Millisecond)
	lines := strings.Split(strings.TrimRight(string(told), "\n"), "\n")
	require.Len(t, lines, 8, "%s", told)
	for i, words := range [][]string{
		{"Execution " + id.String() + " of test (python)", "UTC"},
		{"+0.000s", "#", c.bearer[:12], "requested", "by API key " + c.bearer[:12], "in request", `{"a":41}`},
		{"#", "worker", "started", "by worker"},
		{"#", "worker", "stdout", "first"},
		{"#", "worker", "stdout", "second"},
		{"#", "worker", "stderr", `\x1b[2J third`},
		{"#", "worker", "completed", "MB", `{"sum":42}`},
		{"It succeeded after 1."},
	} {
		for _, word := range words {
			require.Contains(t, lines[i], word)
		}
	}
	require.NotContains(t, string(told), "\x1b", "what is no terminal gets no colours, and nobody what a function would do to a terminal")

	requireTiming(t, s.replay(t, c.bearer, id.String()), 1200*time.Millisecond)
	requireTiming(t, s.replay(t, c.bearer, id.String(), "--speed", "4"), 300*time.Millisecond)
}

// requireTiming wants the last line at least so long after the first.
func requireTiming(t *testing.T, cmd *exec.Cmd, least time.Duration) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var first, last time.Time
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		if n > 0 && first.IsZero() {
			first = time.Now()
		}
		if n > 0 {
			last = time.Now()
		}
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
	}
	require.NoError(t, cmd.Wait())
	// Both are seen a little late, the first one perhaps more than the last.
	require.Greater(t, last.Sub(first), least-150*time.Millisecond)
	require.Less(t, last.Sub(first), least+2*time.Second)
}

func TestAReplayThatCannotBeSaysWhy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c := s.register(t)
	id := uuid.NewString()
	for message, cmd := range map[string]*exec.Cmd{
		"There is no execution " + id: s.replay(t, c.bearer, id),
		"The API key is not valid":    s.replay(t, "vr_"+strings.Repeat("0", 64), id),
		"Set VOLTRUN_API_KEY":         s.replay(t, "", id),
		"--speed must be":             s.replay(t, c.bearer, id, "--speed", "-1"),
		"no VoltRun server answers":   s.replay(t, c.bearer, id, "--url", "http://127.0.0.1:1"),
		"There is no execution it":    s.replay(t, c.bearer, "it"),
	} {
		said, err := cmd.CombinedOutput()
		require.Error(t, err, message)
		require.Contains(t, string(said), message)
	}
}

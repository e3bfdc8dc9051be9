package main

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal: what is written to the second file can be read from the first.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = terminal.Close() })
	return screen, terminal
}

func TestATerminalShowsAReplayInColours(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c := s.register(t)
	id, err := c.execute(t.Context(), c.createFunction(t, "nodejs", "exports.handler = async () => { throw new TypeError('boom') }"), 1)
	require.NoError(t, err)
	c.awaitEnd(t, id)
	screen, terminal := openTerminal(t)
	cmd := s.replay(t, c.bearer, id.String(), "--speed", "inf")
	cmd.Stdout = terminal
	require.NoError(t, cmd.Run())
	require.NoError(t, terminal.Close())
	shown, _ := io.ReadAll(screen) // Linux ends it with an error
	require.Contains(t, string(shown), "\x1b[31mfailed")
	require.Contains(t, string(shown), "TypeError: boom")
	require.Contains(t, string(shown), "It failed after")
}

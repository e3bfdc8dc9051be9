package runners

import (
	"os"

	"golang.org/x/sys/unix"
)

// waitingIn counts what was written to a pipe and nobody has read; -1 when that cannot be known.
func waitingIn(pipe *os.File) int {
	waiting := -1
	if conn, err := pipe.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) {
			if n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
				waiting = n
			}
		})
	}
	return waiting
}

//go:build !linux

package runners

import "os"

// waitingIn says that it is not known how much of what was written to a pipe nobody has read.
func waitingIn(*os.File) int { return -1 }

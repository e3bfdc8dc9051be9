//go:build !linux

package sandbox

import (
	"os"
	"os/exec"
	"syscall"
)

// Outside of Linux a process does not end by itself together with the server, its peak memory is what getrusage tells,
// what leaves its process group is found again by its user alone, and only one server may run functions as root.

func processAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: as}
}

func waitGroup(cmd *exec.Cmd) {
	_ = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}

func keepInherited() {}

func threadsOf(int) int { return 0 }

func descendants(int) (int, error) { return 0, nil }

func peakMemory(int) int64 { return 0 }

func exitMemory(state *os.ProcessState) int64 { return state.SysUsage().(*syscall.Rusage).Maxrss } // bytes on macOS

func killMarked(string) {}

func killOwned(uint32) {}

func lockByte(*os.File, int64) (bool, error) { return true, nil }

func unlockByte(*os.File, int64) {}

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// processAttributes gives a process its own group, another user, and an end together with this server: also after a
// kill -9, nothing that a user wrote runs on.
func processAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: as, Pdeathsig: syscall.SIGKILL}
}

// keepInherited keeps from our children what this server's own parent had left open: Go opens nothing that they could get.
func keepInherited() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	open, _ := names("/proc/self/fd") // a kernel before 5.11
	for _, name := range open {
		if fd, err := strconv.Atoi(name); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// waitGroup waits until a process is over and kills what is left of its group before anybody reaps it: until then nobody
// else can have got the group's id.
func waitGroup(cmd *exec.Cmd) {
	pid := cmd.Process.Pid
	if handle, err := openPid(pid); err == nil {
		awaitPid(handle)
		_ = handle.Close()
	} else { // an old kernel
		for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
}

// peakMemory returns the most memory that a process ever had in RAM, in bytes; 0 when it is over already.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("\nVmHWM:"))
	kilobytes, _, _ := bytes.Cut(rest, []byte(" kB"))
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(kilobytes)), 10, 64)
	return n << 10
}

// exitMemory returns the peak of a process that is over, in bytes; 0 when it cannot be known. What getrusage tells
// survives execve and so begins with the size of this server: only what is more than that is the process's own.
func exitMemory(state *os.ProcessState) int64 {
	peak := state.SysUsage().(*syscall.Rusage).Maxrss << 10
	if peak <= peakMemory(os.Getpid()) {
		return 0
	}
	return peak
}

// killMarked ends processes of this server's user that left the run's process group: they still carry the run's
// environment. A process that also changed its environment is not found.
func killMarked(marker string) {
	killFound(func(folder string) bool {
		environment, _ := os.ReadFile(filepath.Join(folder, "environ")) // of other users: refused
		return bytes.Contains(environment, []byte(marker))
	})
}

// killOwned ends the processes of a user one by one. One that forks fast enough gets away.
func killOwned(uid uint32) {
	killFound(func(folder string) bool {
		status, _ := os.ReadFile(filepath.Join(folder, "status"))
		return bytes.Contains(status, fmt.Appendf(nil, "\nUid:\t%d\t", uid))
	})
}

func killFound(matches func(folder string) bool) {
	for range 3 { // what it forked in between is found in the next round
		entries, _ := os.ReadDir("/proc")
		found := false
		for _, entry := range entries {
			pid, err := strconv.Atoi(entry.Name())
			if err == nil && matches(filepath.Join("/proc", entry.Name())) {
				found = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !found {
			return
		}
	}
}

// lockByte takes the lock of one byte of a file for this open file, or tells that another open file has it.
func lockByte(file *os.File, at int64) (bool, error) {
	err := setLock(file, at, unix.F_WRLCK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

func unlockByte(file *os.File, at int64) { _ = setLock(file, at, unix.F_UNLCK) }

func setLock(file *os.File, at int64, kind int16) error {
	return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: at, Len: 1})
}

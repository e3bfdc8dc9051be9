package runners

import (
	"bytes"
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

// waitGroup waits for a process and kills what is left of its group before it reaps it: until then nobody else can have
// got the group's id.
func waitGroup(cmd *exec.Cmd) {
	pid := cmd.Process.Pid
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	_ = cmd.Wait()
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

// killStrays ends processes that left the run's process group: they still carry the run's environment. A process that
// also changed its environment is not found; only a sandbox holds such a one.
func killStrays(marker string, as *syscall.Credential) {
	for range 3 { // what it forked in between is found in the next round
		strays := findStrays([]byte(marker), as)
		if len(strays) == 0 {
			return
		}
		for _, pid := range strays {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func findStrays(marker []byte, as *syscall.Credential) []int {
	uid := uint32(os.Geteuid())
	if as != nil {
		uid = as.Uid
	}
	entries, _ := os.ReadDir("/proc")
	var strays []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		folder := filepath.Join("/proc", entry.Name())
		var info syscall.Stat_t
		if syscall.Stat(folder, &info) != nil || info.Uid != uid {
			continue
		}
		environment, _ := os.ReadFile(filepath.Join(folder, "environ"))
		if bytes.Contains(environment, marker) {
			strays = append(strays, pid)
		}
	}
	return strays
}

package sandbox

import (
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// runtimeTree is a program that runs in a kernel of its own. From the host there is only that kernel, which ends with the
// runtime's own process, or with the control group that both are in.
type runtimeTree struct {
	pid     int
	handle  *os.File
	pidFile string // of the kernel's process, once it runs
}

func watchRuntime(cmd *exec.Cmd, pidFile string) (tree, error) {
	handle, err := openPid(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	return &runtimeTree{pid: cmd.Process.Pid, handle: handle, pidFile: pidFile}, nil
}

func (t *runtimeTree) program() int { return t.pid }

func (t *runtimeTree) kill() {
	text, _ := os.ReadFile(t.pidFile)
	if pid, err := strconv.Atoi(string(text)); err == nil && pid > 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	signalPid(t.handle, unix.SIGKILL)
}

func (t *runtimeTree) await() { awaitPid(t.handle) }

// processes is 0: what the program has left behind inside is not seen.
func (t *runtimeTree) processes() (int, error) { return 0, nil }

func (t *runtimeTree) close() error { return t.handle.Close() }

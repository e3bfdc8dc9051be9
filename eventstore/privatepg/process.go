package privatepg

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// process is one run of Postgres' main process, the postmaster.
type process struct {
	cmd       *exec.Cmd
	exited    chan struct{} // closed when it has ended and was reaped
	err       error         // how it ended; valid once exited is closed
	recovered bool          // whether it had to recover from a crash
}

// launch starts cmd as a child that dies with this process.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	// SIGINT is Postgres' fast shutdown. The kernel sends it when the thread that forked ends, so that thread stays
	// with the child for its whole life.
	dieWithParent(cmd.SysProcAttr, syscall.SIGINT)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-started
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends a signal; a process that is gone already is fine.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// postmasterFile is what Postgres says about itself in postmaster.pid.
type postmasterFile struct {
	pid       int
	port      int
	socketDir string
	status    string
}

// dsn leads to the server's default database as its superuser.
func (f postmasterFile) dsn() string { return dsn(f.socketDir, f.port) }

// readPostmasterFile reads the file at path. What is absent or half written gives an empty answer.
func readPostmasterFile(path string) postmasterFile {
	content, err := os.ReadFile(path)
	if err != nil {
		return postmasterFile{}
	}
	lines := strings.Split(string(content), "\n")
	file := postmasterFile{}
	file.pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	if len(lines) >= 8 {
		file.port, _ = strconv.Atoi(strings.TrimSpace(lines[3]))
		file.socketDir, file.status = lines[4], strings.TrimSpace(lines[7])
	}
	return file
}

package runners

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// process is a handler's process: the leader of a process group of its own, with four pipes to it.
type process struct {
	pid     int
	request *os.File // its descriptor 3, to write to
	answer  *os.File // its descriptor 4, to read from
	stdout  *os.File
	stderr  *os.File

	exited chan struct{}    // closed when it is over, and with it its process group
	state  *os.ProcessState // how it ended; set before exited is closed
}

// startProcess starts a prepared command, whose descriptors and process attributes it sets.
//
// The pipes are our own *os.Files, so that nothing waits for the ends that a child of the handler may have inherited.
func startProcess(cmd *exec.Cmd, as *syscall.Credential) (*process, error) {
	var ours, theirs [4]*os.File
	defer closeAll(theirs[:])
	for i := range ours {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(ours[:])
			return nil, err
		}
		ours[i], theirs[i] = r, w
	}
	ours[0], theirs[0] = theirs[0], ours[0] // only the request goes the other way
	cmd.Stdout, cmd.Stderr = theirs[2], theirs[3]
	// The shim prints to 5 and 6: a handler may close or redirect 1 and 2.
	cmd.ExtraFiles = []*os.File{theirs[0], theirs[1], theirs[2], theirs[3]}
	cmd.SysProcAttr = processAttributes(as)

	if err := spawn(cmd); err != nil {
		closeAll(ours[:])
		return nil, err
	}
	p := &process{
		pid: cmd.Process.Pid, request: ours[0], answer: ours[1], stdout: ours[2], stderr: ours[3], exited: make(chan struct{}),
	}
	go p.reap(cmd)
	return p, nil
}

// reap waits for the process and takes its process group with it: what a handler leaves running ends with the handler.
func (p *process) reap(cmd *exec.Cmd) {
	waitGroup(cmd)
	p.state = cmd.ProcessState
	close(p.exited)
}

// kill ends the whole process group at once.
func (p *process) kill() {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}

// close lets go of the pipes. Nobody may read from them any more.
func (p *process) close() { closeAll([]*os.File{p.request, p.answer, p.stdout, p.stderr}) }

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// spawner is the one thread that starts processes. The kernel kills a process with Pdeathsig when the *thread* that
// started it ends, and the Go runtime ends threads as it likes: so this one never does.
var spawner = sync.OnceValue(func() chan<- func() {
	starts := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range starts {
			start()
		}
	}()
	return starts
})

func spawn(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	spawner() <- func() { started <- cmd.Start() }
	return <-started
}

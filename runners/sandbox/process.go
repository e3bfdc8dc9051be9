package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// processes starts plain processes: as root each as a user of its own, else as the server's own user. It bounds what one
// process may take, but it is no sandbox: what it starts reaches the network and what everybody may read.
type processes struct {
	users *users
}

// NewProcesses returns the driver "process", which only somebody who asks for it by name should get.
func NewProcesses() (Driver, error) {
	users, err := openUsers()
	if err != nil {
		return nil, err
	}
	return &processes{users: users}, nil
}

func (d *processes) Name() string   { return "process" }
func (d *processes) OwnPaths() bool { return false }

func (d *processes) Enforcement() Enforcement {
	return Enforcement{
		Driver: d.Name(), Level: LevelNone,
		Limits:  map[string]Strength{"memory": Soft, "tmp": Not, "processes": Not, "open_files": Soft, "file_size": Soft, "cpu": Not},
		Network: map[string]Strength{"none": Not, "egress": Not},
		Notes:   []string{"Plain processes: functions reach the network and what every user of this host may read."},
	}
}

func (d *processes) Close() error {
	d.users.close()
	return nil
}

// gate lowers the limits of the process that then becomes the program: no core files, and as much private writable memory
// (KiB), open files and file size (512 bytes) as it is given. Only the process itself can do this, and every shell can.
const gate = `ulimit -c 0; ulimit -d "$0"; ulimit -n "$1"; ulimit -f "$2"; shift 2; exec "$@"`

func gated(l Limits, argv []string) []string {
	return append([]string{"/bin/sh", "-c", gate, strconv.Itoa(l.MemoryMB << 10), strconv.Itoa(l.OpenFiles), strconv.Itoa(l.FileMB << 11)}, argv...)
}

func (d *processes) Start(ctx context.Context, spec Spec) (Instance, error) {
	as, err := d.users.take(ctx)
	if err != nil {
		return nil, err
	}
	p := &processInstance{users: d.users, as: as, done: make(chan struct{})}
	if err := p.start(spec); err != nil {
		d.users.giveBack(as)
		return nil, err
	}
	return p, nil
}

type processInstance struct {
	*pipes
	users *users
	as    *syscall.Credential
	tmp   string
	cmd   *exec.Cmd
	done  chan struct{}
	exit  Exit
	close sync.Once
}

func (p *processInstance) start(spec Spec) (err error) {
	if p.tmp, err = os.MkdirTemp("", "voltrun-tmp-"); err != nil {
		return err
	}
	if p.as != nil {
		err = os.Chown(p.tmp, int(p.as.Uid), int(p.as.Gid))
	}
	if err == nil {
		p.pipes, err = newPipes()
	}
	if err != nil {
		_ = os.RemoveAll(p.tmp)
		return err
	}
	defer p.closeTheirs()
	argv := gated(spec.Limits, spec.Argv)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir, p.cmd.Env = p.tmp, append(spec.Env, "HOME="+p.tmp, "TMPDIR="+p.tmp)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = p.theirs[2], p.theirs[3], p.theirs[:2]
	p.cmd.SysProcAttr = processAttributes(p.as)
	if err := spawn(p.cmd); err != nil {
		p.pipes.close()
		_ = os.RemoveAll(p.tmp)
		return err
	}
	go p.reap()
	return nil
}

// reap waits for the process and takes its process group with it.
func (p *processInstance) reap() {
	waitGroup(p.cmd)
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	p.exit = Exit{Code: status.ExitStatus(), Usage: Usage{
		PeakBytes: exitMemory(p.cmd.ProcessState), CPU: p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(),
	}}
	if status.Signaled() {
		p.exit.Signal, p.exit.Code = int(status.Signal()), 128+int(status.Signal())
	}
	close(p.done)
}

// Owner is the user that the process runs as; nil is the server's own.
func (p *processInstance) Owner() *syscall.Credential { return p.as }

func (p *processInstance) Freeze(bool) error { return nil }
func (p *processInstance) ResetPeak()        {}

func (p *processInstance) Usage() Usage {
	peak := peakMemory(p.cmd.Process.Pid)
	return Usage{MemoryBytes: peak, PeakBytes: peak}
}

// Processes counts nothing here: what left the process group cannot be found without looking at the whole host.
func (p *processInstance) Processes() (int, error) { return 0, nil }

func (p *processInstance) Kill() {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

func (p *processInstance) Done() <-chan struct{} { return p.done }

func (p *processInstance) Exit() Exit {
	<-p.done
	return p.exit
}

func (p *processInstance) Close() (err error) {
	p.close.Do(func() {
		p.Kill()
		<-p.done
		p.pipes.close()
		if err = endStrays(p.as, "TMPDIR="+p.tmp); err == nil {
			p.users.giveBack(p.as)
		}
		err = errors.Join(err, removeAll(p.tmp))
	})
	return err
}

// removeAll deletes a folder, also what was made unreadable in it.
func removeAll(folder string) error {
	if err := os.RemoveAll(folder); err == nil {
		return nil
	}
	_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(folder)
}

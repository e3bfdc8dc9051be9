package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/voltrun/voltrun/runners/sandbox/limits"
)

// command is how a driver starts a spec's program on the host.
type command struct {
	argv       []string
	env        []string
	dir        string
	extra      []*os.File // descriptors from 6 on; closed when the process has them
	attributes *syscall.SysProcAttr
	limits     Limits
	launchers  int                               // how many processes the driver itself has among the limited ones
	group      *limits.Group                     // made last, by launch
	watch      func(cmd *exec.Cmd) (tree, error) // called at the gate
	cleanup    func() error                      // when nothing of it lives any more; may be nil
}

func (c *command) clean() error {
	closeAll(c.extra)
	if c.cleanup == nil {
		return nil
	}
	return c.cleanup()
}

// tree is an instance's processes, as a driver finds them again.
type tree interface {
	program() int // its pid on the host, 0 when it is not known
	kill()
	await() // returns when nothing lives
	processes() (int, error)
	close() error // ends what may have got away
}

// instance is a process in any of this package's sandboxes.
type instance struct {
	*pipes
	command *command
	users   *users
	as      *syscall.Credential // nil is the server's own user
	cmd     *exec.Cmd
	tree    tree
	census  census
	done    chan struct{}
	exit    Exit
	close   func() error
}

func newInstance(users *users, as *syscall.Credential, c *command) *instance {
	i := &instance{command: c, users: users, as: as, done: make(chan struct{})}
	i.close = sync.OnceValue(i.release)
	return i
}

func (i *instance) start(ctx context.Context) (err error) {
	if i.pipes, err = newPipes(); err != nil {
		return err
	}
	ready, passed, err := os.Pipe()
	if err != nil {
		i.closeTheirs()
		i.pipes.close()
		return err
	}
	defer func() { _ = ready.Close() }()
	i.cmd = i.newCmd(passed)
	err = startIn(i.command.group, i.cmd)
	i.closeTheirs()
	closeAll(append(i.command.extra, passed))
	if err == nil {
		err = i.awaitGate(ctx, ready)
	}
	if err != nil {
		i.pipes.close()
	}
	return err
}

func (i *instance) newCmd(passed *os.File) *exec.Cmd {
	cmd := exec.Command(i.command.argv[0], i.command.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = i.command.dir, append([]string{}, i.command.env...), i.command.attributes
	cmd.Stdout, cmd.Stderr = i.theirs[2], i.theirs[3]
	cmd.ExtraFiles = append([]*os.File{i.theirs[0], i.theirs[1], passed}, i.command.extra...)
	return cmd
}

// awaitGate lets the program through the gate when it is watched. What ends before that has said why to stderr.
func (i *instance) awaitGate(ctx context.Context, ready *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	_, err := ready.Read(make([]byte, 1))
	if err == nil {
		i.tree, err = i.command.watch(i.cmd)
	}
	if err == nil {
		_, err = i.requests.WriteString("\n")
	}
	if err == nil {
		return nil
	}
	_ = syscall.Kill(-i.cmd.Process.Pid, syscall.SIGKILL)
	_ = i.cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("the sandbox did not start: %s", i.lastWords(err))
}

func (i *instance) lastWords(otherwise error) string {
	_ = i.stderr.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // somebody else may have inherited the other end
	said, _ := io.ReadAll(io.LimitReader(i.stderr, 2<<10))
	if len(said) == 0 {
		return otherwise.Error()
	}
	return strings.TrimSpace(string(said))
}

// reap waits until nothing of the instance lives and notes how its program ended. What a launcher reports as 128 and a
// signal cannot be told from a program that exits with that number.
func (i *instance) reap() {
	i.tree.await()
	_ = i.cmd.Wait()
	status, _ := i.cmd.ProcessState.Sys().(syscall.WaitStatus)
	i.exit = Exit{Code: status.ExitStatus()}
	if status.Signaled() {
		i.exit.Code = 128 + int(status.Signal())
	}
	if i.exit.Code > 128 && i.exit.Code <= 128+64 {
		i.exit.Signal = i.exit.Code - 128
	}
	i.exit.Usage, i.exit.OutOfMemory = i.lastUsage(), i.command.group.OOMKilled()
	close(i.done)
}

func (i *instance) lastUsage() Usage {
	if !i.command.group.Bounded() {
		state := i.cmd.ProcessState
		return Usage{CPU: state.UserTime() + state.SystemTime(), PeakBytes: exitMemory(state)}
	}
	return Usage(i.command.group.Usage())
}

// Owner is the user that the program runs as; nil is the server's own.
func (i *instance) Owner() *syscall.Credential { return i.as }

// Freeze implements Instance.
func (i *instance) Freeze(frozen bool) error { return i.command.group.Freeze(frozen) }

// Usage implements Instance.
func (i *instance) Usage() Usage {
	if !i.command.group.Bounded() {
		peak := peakMemory(i.tree.program())
		return Usage{MemoryBytes: peak, PeakBytes: peak}
	}
	return Usage(i.command.group.Usage())
}

// ResetPeak implements Instance.
func (i *instance) ResetPeak() { i.command.group.ResetPeak() }

// Processes implements Instance.
func (i *instance) Processes() (int, error) {
	return i.census.count(i.command.group.Tasks, i.tree)
}

// Kill implements Instance.
func (i *instance) Kill() {
	select {
	case <-i.done: // the process's number may be somebody else's by now
	default:
		i.tree.kill()
		i.command.group.Kill()
	}
}

// Done implements Instance.
func (i *instance) Done() <-chan struct{} { return i.done }

// Exit implements Instance.
func (i *instance) Exit() Exit {
	<-i.done
	return i.exit
}

// Close implements Instance.
func (i *instance) Close() error { return i.close() }

// release ends the instance. Nobody gets its user as long as something of it may live.
func (i *instance) release() error {
	i.Kill()
	<-i.done
	i.pipes.close()
	err := i.tree.close()
	if err == nil {
		i.users.giveBack(i.as)
	}
	return errors.Join(err, i.command.clean(), i.command.group.Close()) // in this order: the group may hold who served the command
}

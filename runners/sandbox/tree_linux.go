package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// namespaceTree is everything in a pid namespace, whose first process takes all others with it when it ends: also what
// has forked itself out of every group, and at once.
type namespaceTree struct {
	init    int      // the first process's pid on the host
	handle  *os.File // pidfd of it; it becomes readable when the namespace is empty
	started atomic.Int64
}

// watchChild finds the namespace of which a launcher's only child is the first process.
func watchChild(cmd *exec.Cmd) (tree, error) {
	children, err := childrenOf(cmd.Process.Pid)
	if err != nil || len(children) != 1 {
		return nil, fmt.Errorf("the sandbox's first process was not found: %w", errors.Join(err, os.ErrProcessDone))
	}
	return watchNamespace(children[0])
}

// watchItself is for a launcher that is the first process of the namespace.
func watchItself(cmd *exec.Cmd) (tree, error) { return watchNamespace(cmd.Process.Pid) }

func watchNamespace(first int) (tree, error) {
	handle, err := openPid(first)
	if err != nil {
		return nil, err
	}
	return &namespaceTree{init: first, handle: handle}, nil
}

// program is the first child of the namespace's first process.
func (t *namespaceTree) program() int {
	if pid := t.started.Load(); pid != 0 {
		return int(pid)
	}
	children, _ := childrenOf(t.init)
	if len(children) == 0 {
		return 0
	}
	t.started.Store(int64(children[0]))
	return children[0]
}

func (t *namespaceTree) kill()  { signalPid(t.handle, unix.SIGKILL) }
func (t *namespaceTree) await() { awaitPid(t.handle) }

func (t *namespaceTree) processes() (int, error) {
	n, err := descendants(t.init)
	return max(n-1, 0), err // the program is one of them
}

func (t *namespaceTree) close() error { return t.handle.Close() }

// openPid returns a handle of a process that stays this process's when the number is given to another one.
func openPid(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

func signalPid(handle *os.File, signal unix.Signal) {
	if conn, err := handle.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), signal, nil, 0) })
	}
}

// awaitPid waits until a process is over, without a thread: wait4 would hold one for each.
func awaitPid(handle *os.File) {
	conn, err := handle.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(polled, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// descendants counts the processes below one.
func descendants(pid int) (int, error) {
	children, err := childrenOf(pid)
	n := len(children)
	for _, child := range children {
		below, err := descendants(child)
		if err != nil {
			return 0, err
		}
		n += below
	}
	return n, err
}

// childrenOf lists the children of all threads of a process; none when it is over.
func childrenOf(pid int) ([]int, error) {
	folder := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, err := names(folder)
	if err != nil {
		return nil, unlessGone(err)
	}
	var children []int
	for _, thread := range threads {
		list, err := os.ReadFile(folder + "/" + thread + "/children")
		if unlessGone(err) != nil {
			return nil, err
		}
		for field := range bytes.FieldsSeq(list) {
			child, _ := strconv.Atoi(string(field))
			children = append(children, child)
		}
	}
	return children, nil
}

// threadsOf counts the threads of a process: their folder has a link for each, and two of its own.
func threadsOf(pid int) int {
	var folder unix.Stat_t
	if unix.Stat("/proc/"+strconv.Itoa(pid)+"/task", &folder) != nil {
		return 0
	}
	return int(folder.Nlink) - 2
}

func names(folder string) ([]string, error) {
	dir, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	return dir.Readdirnames(-1)
}

func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/voltrun/voltrun/runners/sandbox/limits"
)

// processName is what plain processes are asked for by.
const processName = "process"

// processes starts plain processes: as root each as a user of its own, else as the server's own user. It bounds what one
// process may take, but it is no sandbox: what it starts reaches the network and what everybody may read.
type processes struct{ *host }

// NewProcesses returns the driver "process", which only somebody who asks for it by name should get.
func NewProcesses() (Driver, error) {
	host, err := openHost()
	if err != nil {
		return nil, err
	}
	return &processes{host}, nil
}

func openProcesses(context.Context, Options) (Driver, error) { return NewProcesses() }

func (d *processes) Name() string   { return processName }
func (d *processes) OwnPaths() bool { return false }

func (d *processes) Enforcement() Enforcement {
	return d.enforcement(Enforcement{
		Driver: d.Name(), Level: LevelNone,
		Limits:  map[string]Strength{"memory": Soft, "tmp": Not, "processes": ofOwnUser(), "open_files": Hard, "file_size": Hard, "cpu": Not},
		Network: map[string]Strength{"none": Not, "egress": Not},
		Notes:   []string{"Plain processes: functions reach the network and what every user of this host may read."},
	})
}

func (d *processes) Close() error { return d.close() }

func (d *processes) Start(ctx context.Context, spec Spec) (Instance, error) {
	return d.launch(ctx, func(as *syscall.Credential) (*command, error) { return d.prepare(spec, as) })
}

func (d *processes) prepare(spec Spec, as *syscall.Credential) (*command, error) {
	tmp, err := d.makeTmp(as)
	if err != nil {
		return nil, err
	}
	l := d.perProcess(spec.Limits, as)
	c := &command{
		argv: gated(l, becomeProgram, spec.Argv), env: append(homeIn(tmp), spec.Env...), dir: tmp,
		attributes: processAttributes(as), limits: spec.Limits,
		cleanup: func() error { return removeAll(tmp) },
	}
	c.watch = watchGroup(c, as, tmp)
	return c, nil
}

// homeIn comes first in the environment, so that a program cannot be told of another home by mistake.
func homeIn(tmp string) []string { return []string{"HOME=" + tmp, "TMPDIR=" + tmp} }

// makeTmp makes a folder on the host for one instance, as its only folder to write to.
func (h *host) makeTmp(as *syscall.Credential) (string, error) {
	tmp, err := os.MkdirTemp(h.folder.path, "")
	if err != nil || as == nil {
		return tmp, err
	}
	if err := os.Chown(tmp, int(as.Uid), int(as.Gid)); err != nil {
		return "", errors.Join(err, os.Remove(tmp))
	}
	return tmp, nil
}

// groupTree is a process with its group, and whatever else runs as its user or, where it has none of its own, carries its
// environment.
type groupTree struct {
	cmd    *exec.Cmd
	group  *limits.Group
	as     *syscall.Credential
	marker string
}

// watchGroup is how a command's processes are found that has no namespace.
func watchGroup(c *command, as *syscall.Credential, tmp string) func(*exec.Cmd) (tree, error) {
	return func(cmd *exec.Cmd) (tree, error) {
		return &groupTree{cmd: cmd, group: c.group, as: as, marker: "TMPDIR=" + tmp}, nil
	}
}

func (t *groupTree) program() int { return t.cmd.Process.Pid }
func (t *groupTree) kill()        { _ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL) }
func (t *groupTree) await()       { waitGroup(t.cmd) }
func (t *groupTree) close() error { return endStrays(t.as, t.marker) }

// processes counts what is in the control group beside the program. Without one, what has left its parents is not found.
func (t *groupTree) processes() (int, error) {
	if !t.group.Bounded() {
		return descendants(t.cmd.Process.Pid)
	}
	n, err := t.group.Processes()
	return max(n-1, 0), err
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

package sandbox

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"github.com/voltrun/voltrun/runners/sandbox/limits"
)

// host is what every driver of this package takes from the host: users that programs run as, control groups, and a folder
// for those files that programs write where they have none of their own.
type host struct {
	users  *users
	groups *limits.Tree
	folder *ownFolder
}

func openHost() (*host, error) {
	users, err := openUsers()
	if err != nil {
		return nil, err
	}
	folder, err := newOwnFolder("voltrun-tmp-")
	if err != nil {
		users.close()
		return nil, err
	}
	return &host{users: users, groups: limits.Open(), folder: folder}, nil
}

func (h *host) close() error {
	h.users.close()
	return errors.Join(h.groups.Close(), h.folder.close())
}

// group makes a control group for a spec whose driver adds some processes of its own.
func (h *host) group(l Limits, launchers int) (*limits.Group, error) {
	if l.Processes > 0 {
		l.Processes += launchers
	}
	return h.groups.New(limits.Bounds{MemoryMB: l.MemoryMB, Processes: l.Processes, CPUs: l.CPUs})
}

// perTask is what the gate has to limit, since nothing limits it for the tree. The number of processes is that of a user in
// its namespace.
func (h *host) perTask(l Limits) Limits {
	hard := h.groups.Hard()
	if slices.Contains(hard, "memory") {
		l.MemoryMB = 0
	}
	if slices.Contains(hard, "processes") {
		l.Processes = 0
	}
	return l
}

// perProcess is perTask for a program that shares the host's user namespace. As the server's own user, it would have to
// share the number of processes with all that this user runs.
func (h *host) perProcess(l Limits, as *syscall.Credential) Limits {
	l = h.perTask(l)
	if as == nil {
		l.Processes = 0
	}
	return l
}

// ofOwnUser says how the number of processes is kept by users alone.
func ofOwnUser() Strength {
	if os.Geteuid() != 0 {
		return Not
	}
	return Soft
}

// enforcement adds what the host's control groups do to what a driver enforces without them.
func (h *host) enforcement(e Enforcement) Enforcement {
	for _, limit := range h.groups.Hard() {
		e.Limits[limit] = Hard
	}
	e.Freeze = h.groups.Freezes()
	e.Notes = append(e.Notes, h.groups.Notes()...)
	return e
}

// launch starts a program as a user of its own, in the way that a driver prepares. It returns when the gate is passed.
func (h *host) launch(ctx context.Context, prepare func(as *syscall.Credential) (*command, error)) (Instance, error) {
	as, err := h.users.take(ctx)
	if err != nil {
		return nil, err
	}
	c, err := prepare(as)
	if err != nil {
		h.users.giveBack(as)
		return nil, err
	}
	c.group, err = h.group(c.limits, c.launchers)
	if err != nil {
		h.users.giveBack(as)
		return nil, errors.Join(err, c.clean())
	}
	i := newInstance(h.users, as, c)
	if err := i.start(ctx); err != nil {
		h.users.giveBack(as)
		return nil, errors.Join(err, c.group.Close(), c.clean())
	}
	go i.reap()
	return i, nil
}

// startIn starts a command in its group, from the thread that starts all of them.
func startIn(group *limits.Group, cmd *exec.Cmd) error { return group.Start(cmd, spawn) }

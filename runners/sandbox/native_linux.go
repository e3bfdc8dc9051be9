package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// native makes the same sandbox as bubblewrap, without it: this binary itself, started in new namespaces, builds the file
// system and becomes the program's gate.
type native struct {
	*host
	system *system
	root   string
	filter []byte
	egress *egress
}

// openEgressAsRoot is for a driver that can only enter another's network when the server is root: else that network belongs
// to a user namespace, and the driver makes one of its own before it gets there.
func openEgressAsRoot(ctx context.Context, users *users, o Options) *egress {
	if os.Geteuid() != 0 {
		return &egress{why: errors.New("the driver native can do that only as root, bwrap can always")}
	}
	return openEgress(ctx, users, o.Refused)
}

// newNative returns the driver "native". That it can be made does not mean that it works here.
func newNative(ctx context.Context, o Options) (Driver, error) {
	filter, err := filterWithSockets()
	if err != nil {
		return nil, err
	}
	system, err := newSystem()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(system.folder, "root")
	if err := makeFolder(root); err != nil {
		return nil, errors.Join(err, system.close())
	}
	host, err := openHost()
	if err != nil {
		return nil, errors.Join(err, system.close())
	}
	return &native{host: host, system: system, root: root, filter: filter, egress: openEgressAsRoot(ctx, host.users, o)}, nil
}

func (d *native) Name() string   { return "native" }
func (d *native) OwnPaths() bool { return true }

func (d *native) Enforcement() Enforcement {
	return d.egress.enforcement(d.enforcement(namespaceEnforcement(d.Name())))
}

func (d *native) Close() error {
	d.egress.close()
	return errors.Join(d.close(), d.system.close())
}

func (d *native) Start(ctx context.Context, spec Spec) (Instance, error) {
	return d.launch(ctx, func(as *syscall.Credential) (*command, error) { return d.prepare(ctx, spec, as) })
}

func (d *native) prepare(ctx context.Context, spec Spec, as *syscall.Credential) (*command, error) {
	plan := &shimPlan{
		Root: &rootPlan{
			OwnNetwork: !spec.Egress,
			On:         d.root, Mounts: slices.Concat(d.system.mounts, spec.Mounts), Links: d.system.links, TmpBytes: int64(spec.Limits.TmpMB) << 20,
		},
		Filter: d.filter, Dir: "/tmp",
		Argv: gated(d.perTask(spec.Limits), watchProgram, spec.Argv), Env: append(homeIn("/tmp"), spec.Env...),
	}
	if as != nil {
		plan.Switch, plan.UID, plan.GID = true, int(as.Uid), int(as.Gid)
	}
	c, err := shimCommand(plan)
	if err != nil {
		return nil, err
	}
	c.attributes, c.limits, c.launchers, c.watch = namespaceAttributes(as), spec.Limits, 1, watchItself
	if spec.Egress {
		c.attributes.Cloneflags &^= unix.CLONE_NEWNET
		err = d.egress.lend(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(err, c.clean())
	}
	return c, nil
}

// namespaceAttributes give a process new namespaces. Root needs no user namespace, and must not have one; in anybody
// else's, the process keeps the capabilities to build its sandbox until it gives them up.
func namespaceAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
	}
	if as == nil {
		attributes.Cloneflags |= unix.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: sandboxUser, HostID: os.Geteuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: sandboxUser, HostID: os.Getegid(), Size: 1}}
		attributes.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP}
	}
	return attributes
}

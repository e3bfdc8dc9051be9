package sandbox

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// bubblewrap starts programs through bwrap, the launcher that Flatpak uses.
//
// As root it makes no user namespace: in one that belongs to the host's root, a program without any capability is still
// the owner of /proc/sys and can set the host's kernel.core_pattern. setpriv takes the program to a user of its own
// instead, who owns nothing. As any other user a user namespace is what makes the rest possible, and is harmless.
type bubblewrap struct {
	*host
	system *system
	bwrap  string
	filter []byte
	egress *egress
}

// newBubblewrap returns the driver "bwrap". That it can be made does not mean that it works here.
func newBubblewrap(ctx context.Context, o Options) (Driver, error) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		return nil, errors.New("bwrap is not installed (package bubblewrap)")
	}
	filter, err := filterWithSockets()
	if err != nil {
		return nil, err
	}
	system, err := newSystem()
	if err != nil {
		return nil, err
	}
	host, err := openHost()
	if err != nil {
		return nil, errors.Join(err, system.close())
	}
	return &bubblewrap{host: host, system: system, bwrap: bwrap, filter: filter, egress: openEgress(ctx, host.users, o.Refused)}, nil
}

func (d *bubblewrap) Name() string   { return "bwrap" }
func (d *bubblewrap) OwnPaths() bool { return true }

func (d *bubblewrap) Enforcement() Enforcement {
	return d.egress.enforcement(d.enforcement(namespaceEnforcement(d.Name())))
}

func (d *bubblewrap) Close() error {
	d.egress.close()
	return errors.Join(d.close(), d.system.close())
}

func (d *bubblewrap) Start(ctx context.Context, spec Spec) (Instance, error) {
	return d.launch(ctx, func(as *syscall.Credential) (*command, error) { return d.prepare(ctx, spec, as) })
}

// prepare hands the arguments over in a file, each with a NUL at its end: they name folders of the host, and bwrap stays
// visible in the sandbox as its first process, with its arguments.
func (d *bubblewrap) prepare(ctx context.Context, spec Spec, as *syscall.Credential) (*command, error) {
	c := &command{
		argv: []string{d.bwrap, "--args", "6", "--"}, dir: "/", limits: spec.Limits, launchers: 2, watch: watchChild,
		attributes: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	c.argv = append(append(c.argv, drop(as)...), gated(d.perTask(spec.Limits), becomeProgram, spec.Argv)...)
	arguments := d.arguments(spec, as)
	if slices.ContainsFunc(arguments, func(argument string) bool { return strings.ContainsRune(argument, 0) }) {
		return nil, errors.New("a variable or a path contains a NUL")
	}
	for _, content := range [][]byte{[]byte(strings.Join(arguments, "\x00") + "\x00"), d.filter} {
		file, err := memoryFile("voltrun-sandbox", content)
		if err != nil {
			return nil, errors.Join(err, c.clean())
		}
		c.extra = append(c.extra, file)
	}
	if spec.Egress {
		if err := d.egress.lend(ctx, c); err != nil {
			return nil, errors.Join(err, c.clean())
		}
	}
	return c, nil
}

// drop is what takes a program from root to its own user, without any capability for good.
func drop(as *syscall.Credential) []string {
	if as == nil {
		return nil
	}
	id := strconv.FormatUint(uint64(as.Uid), 10)
	return []string{
		"/usr/bin/setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--",
	}
}

func (d *bubblewrap) arguments(spec Spec, as *syscall.Credential) []string {
	args := []string{"--die-with-parent", "--new-session", "--cap-drop", "ALL", "--seccomp", "7", "--hostname", "function"}
	args = append(args, "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try")
	if !spec.Egress {
		args = append(args, "--unshare-net")
	}
	if as == nil {
		id := strconv.Itoa(sandboxUser)
		args = append(args, "--unshare-user", "--uid", id, "--gid", id)
	} else {
		args = append(args, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP")
	}
	args = append(append(args, d.system.arguments()...),
		"--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", strconv.Itoa(shmBytes), "--tmpfs", "/dev/shm", "--remount-ro", "/dev",
		"--perms", "1777", "--size", strconv.Itoa(spec.Limits.TmpMB<<20), "--tmpfs", "/tmp")
	args = append(args, mountArguments(spec.Mounts)...)
	args = append(args, "--remount-ro", "/", "--chdir", "/tmp", "--clearenv")
	for _, variable := range append(spec.Env, "HOME=/tmp", "TMPDIR=/tmp") {
		name, value, _ := strings.Cut(variable, "=")
		args = append(args, "--setenv", name, value)
	}
	return args
}

func (s *system) arguments() []string {
	var args []string
	for _, m := range s.mounts {
		args = append(args, "--ro-bind", m.Source, m.Target)
	}
	for path, target := range s.links {
		args = append(args, "--symlink", target, path)
	}
	return args
}

// mountArguments makes the folders above each mount as well: as root, bwrap would make them for itself alone.
func mountArguments(mounts []Mount) []string {
	var args []string
	for _, m := range mounts {
		for at, c := range m.Target[1:] {
			if c == os.PathSeparator {
				args = append(args, "--perms", "0755", "--dir", m.Target[:at+1])
			}
		}
		args = append(args, "--ro-bind", m.Source, filepath.Clean(m.Target))
	}
	return args
}

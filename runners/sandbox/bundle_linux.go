package sandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rootOf is a bundle's root folder, which holds mount points and links.
func rootOf(bundle string) string { return filepath.Join(bundle, "root") }

// writeBundle makes a bundle's root folder and writes its configuration.
func (s *system) writeBundle(bundle string, configuration *specs.Spec) error {
	root := rootOf(bundle)
	for _, m := range configuration.Mounts {
		if err := makePoint(root, m); err != nil {
			return err
		}
	}
	for path, target := range s.links {
		if err := os.Symlink(target, filepath.Join(root, path)); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777|os.ModeSticky); err != nil { // runc gives the tmpfs this folder's mode
		return err
	}
	text, err := json.Marshal(configuration)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600)
}

// makePoint makes the folder on which something is mounted. What is mounted into /etc and /dev finds its place there.
func makePoint(root string, m specs.Mount) error {
	if strings.HasPrefix(m.Destination, "/etc/") || strings.HasPrefix(m.Destination, "/dev/") {
		return nil
	}
	return makeFolder(filepath.Join(root, m.Destination))
}

// configuration is what the runtime reads. Limits are not in it: the control group has them, or the gate.
func (d *oci) configuration(bundle string, spec Spec, as *syscall.Credential) *specs.Spec {
	c := &specs.Spec{
		Version: "1.0.2", Hostname: "function",
		Process: &specs.Process{
			Args: d.first(spec), Cwd: "/tmp", Env: append([]string{"HOME=/tmp", "TMPDIR=/tmp"}, spec.Env...),
			Capabilities: &specs.LinuxCapabilities{}, NoNewPrivileges: true,
		},
		Root:   &specs.Root{Path: rootOf(bundle), Readonly: true},
		Mounts: d.mounts(spec),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}},
			Seccomp:    containerFilter(),
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
				"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if !spec.Egress {
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	}
	if d.runtime.ownGroup && as != nil { // without a path, runc accepts that it may make none
		c.Linux.CgroupsPath = filepath.Base(bundle) // below our own
	}
	d.identify(c, as, spec.Egress)
	return c
}

// first is the container's first process.
func (d *oci) first(spec Spec) []string {
	argv := gated(d.perTask(spec.Limits), watchProgram, spec.Argv)
	if !d.runtime.passes {
		argv[2] = turnedBack + argv[2]
	}
	if d.runtime.outlives {
		argv = append([]string{"/usr/bin/setpriv", "--pdeathsig", "KILL", "--"}, argv...)
	}
	return argv
}

// identify gives the program its user. A server that is root has one for it and makes no user namespace. Else there has to
// be one, which a runtime with a kernel of its own makes by itself: the server's user is root in it, because runc starts
// nothing without, but has no capability. In a lent network that user is root already when the runtime starts.
func (d *oci) identify(c *specs.Spec, as *syscall.Credential, lent bool) {
	switch {
	case as != nil:
		c.Process.User = specs.User{UID: as.Uid, GID: as.Gid}
	case !d.runtime.kernel:
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
		if lent {
			uid, gid = 0, 0
		}
		c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: uid, Size: 1}}
		c.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: gid, Size: 1}}
	}
}

func (d *oci) mounts(spec Spec) []specs.Mount {
	size := func(bytes int) string { return "size=" + strconv.Itoa(bytes) }
	dev := []string{"nosuid", "mode=755", "size=65536"}
	if !d.runtime.kernel { // runsc could not write to /dev/null then; its /dev is none of the host's
		dev = append(dev, "ro")
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: dev},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", size(shmBytes)}},
		{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777", size(spec.Limits.TmpMB << 20)}},
	}
	for _, m := range slices.Concat(d.system.mounts, spec.Mounts) {
		mounts = append(mounts, specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: []string{"rbind", "ro", "nosuid", "nodev"}})
	}
	return mounts
}

// containerFilter is this package's filter of system calls, in the words of runtimes.
func containerFilter() *specs.LinuxSeccomp {
	notThereErrno := uint(unix.ENOSYS)
	filter := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{nativeArchitecture},
		Syscalls:      []specs.LinuxSyscall{{Names: notThere, Action: specs.ActErrno, ErrnoRet: &notThereErrno}},
	}
	for _, rule := range moby.DefaultProfile().Syscalls {
		names := slices.DeleteFunc(slices.Clone(rule.Names), isRefused)
		if rule.Action == specs.ActAllow && appliesHere(rule) && len(names) > 0 {
			filter.Syscalls = append(filter.Syscalls, specs.LinuxSyscall{Names: names, Action: specs.ActAllow, Args: argumentsOf(rule)})
		}
	}
	for _, family := range socketFamilies {
		filter.Syscalls = append(filter.Syscalls, specs.LinuxSyscall{
			Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: family, Op: specs.OpEqualTo}},
		})
	}
	return filter
}

// nativeArchitecture is the only one whose system calls are allowed.
var nativeArchitecture = map[string]specs.Arch{
	"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64, "riscv64": specs.ArchRISCV64, "ppc64le": specs.ArchPPC64LE, "s390x": specs.ArchS390X,
}[runtime.GOARCH]

package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/voltrun/voltrun/runners/sandbox/limits"
)

// ociRuntime is what differs between programs with runc's command line.
type ociRuntime struct {
	level     Level
	flags     []string // before the command
	passes    bool     // descriptors beyond standard error
	kernel    bool     // a kernel of its own lies between: what lives inside is not seen from the host
	ownGroup  bool     // it cannot be kept from making a control group
	outlives  bool     // the container lives on when the runtime is killed, unless its first process asks to end with it
	loopback  []string // flags of a program that may reach nothing
	shared    []string // flags of a program that is in the network in which the runtime runs
	processes int      // that it adds itself, with threads
}

var ociRuntimes = map[string]ociRuntime{
	"crun":  {level: LevelNamespace, flags: []string{"--cgroup-manager=disabled"}, passes: true, outlives: true, processes: 4},
	"runc":  {level: LevelNamespace, passes: true, outlives: true, ownGroup: true, processes: 32},
	"krun":  {level: LevelKernel, flags: []string{"--cgroup-manager=disabled"}, kernel: true, processes: 64},
	"runsc": {level: LevelKernel, flags: []string{"--ignore-cgroups"}, kernel: true, loopback: []string{"--network=none"}, shared: []string{"--network=host"}, processes: 128},
}

// oci starts programs through an OCI runtime, from a bundle without an image: the root folder holds nothing but mount
// points for the host's system.
type oci struct {
	*host
	runtime ociRuntime
	path    string
	system  *system
	egress  *egress
	states  *states
}

func openOCI(ctx context.Context, o Options) (Driver, error) {
	return NewOCI(ctx, cmp.Or(o.OCIRuntime, "crun"), o.Refused)
}

// NewOCI returns the driver "oci" for a runtime, by its name or its path. What programs with access to the internet may not
// reach besides this host and private networks is refused.
func NewOCI(ctx context.Context, runtime string, refused []netip.Prefix) (Driver, error) {
	kind, ok := ociRuntimes[filepath.Base(runtime)]
	if !ok {
		return nil, fmt.Errorf("the OCI runtime %q is unknown; known are crun, runc, runsc and krun", runtime)
	}
	path, err := exec.LookPath(runtime)
	if err != nil {
		return nil, fmt.Errorf("the OCI runtime %s is not installed", runtime)
	}
	d := &oci{runtime: kind, path: path}
	if d.host, err = openHost(); err != nil {
		return nil, err
	}
	if d.system, err = newSystem(); err == nil {
		d.states, err = openStates(d.deletion())
	}
	if err != nil {
		return nil, errors.Join(err, d.host.close())
	}
	d.egress = openEgress(ctx, d.users, refused)
	return d, nil
}

func (d *oci) Name() string   { return "oci" }
func (d *oci) OwnPaths() bool { return true }

func (d *oci) Close() error {
	d.egress.close()
	return errors.Join(d.states.close(), d.system.close(), d.host.close())
}

func (d *oci) Enforcement() Enforcement {
	e := namespaceEnforcement(d.Name() + " (" + filepath.Base(d.path) + ")")
	e.Level = d.runtime.level
	return d.egress.enforcement(d.enforcement(e))
}

func (d *oci) Start(ctx context.Context, spec Spec) (Instance, error) {
	return d.launch(ctx, func(as *syscall.Credential) (*command, error) { return d.prepare(ctx, spec, as) })
}

// command is one of the runtime's, on the states below a folder.
func (d *oci) command(states string, arguments ...string) []string {
	command := append([]string{d.path}, d.runtime.flags...)
	if d.runtime.kernel && os.Geteuid() != 0 {
		command = append(command, "--rootless")
	}
	return append(append(command, "--root", states), arguments...)
}

// deletion is how containers are deleted whose runtime was killed.
func (d *oci) deletion() func(states, container string) []string {
	if !d.runtime.ownGroup {
		return nil
	}
	return func(states, container string) []string { return d.command(states, "delete", "--force", container) }
}

// prepare makes a bundle. The name of the bundle's folder is the container's.
func (d *oci) prepare(ctx context.Context, spec Spec, as *syscall.Credential) (*command, error) {
	bundle, err := d.states.newBundle()
	if err != nil {
		return nil, err
	}
	c := &command{
		argv: d.run(bundle, spec.Egress), dir: "/", limits: spec.Limits, launchers: d.runtime.processes,
		env:        []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=" + d.states.folder},
		attributes: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	c.watch = func(cmd *exec.Cmd) (tree, error) { return d.watch(cmd, c.group, bundle) }
	if err = d.system.writeBundle(bundle, d.configuration(bundle, spec, as)); err == nil && spec.Egress {
		err = d.egress.lend(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(err, d.states.remove(bundle))
	}
	lent := c.cleanup
	c.cleanup = func() error {
		err := d.states.remove(bundle) // with what a runtime that was killed could not remove
		if lent != nil {
			err = errors.Join(err, lent())
		}
		return err
	}
	return c, nil
}

// turned lets a runtime that passes on only the standard descriptors pass on the requests and the answers as two of them,
// and says for the gate that it is passed: the program's own gate cannot. Inside, turnedBack makes 3 and 4 of them again;
// what the program prints to standard error arrives with its standard output.
const (
	turned     = `printf . >&5; exec 5>&- "$@" 2>&1 0<&3 1>&4 3<&- 4>&-`
	turnedBack = `exec 3<&0 4>&1 5>/dev/null </dev/null 1>&2; `
)

func (d *oci) run(bundle string, egress bool) []string {
	flags, inNetwork := []string{"run", "--bundle", bundle, "--pid-file", pidFile(bundle)}, d.runtime.loopback
	if egress {
		inNetwork = d.runtime.shared
	}
	if d.runtime.passes {
		flags = append(flags, "--preserve-fds", "3")
	}
	argv := d.command(d.states.known(), append(flags, filepath.Base(bundle))...)
	argv = slices.Insert(argv, 1, inNetwork...)
	if !d.runtime.passes {
		argv = append([]string{"/bin/sh", "-c", turned, "sh"}, argv...)
	}
	if egress && !d.runtime.kernel && os.Geteuid() != 0 { // runc wants to own the mounts when it is root of a user namespace
		argv = append([]string{"unshare", "--mount", "--"}, argv...)
	}
	return argv
}

func pidFile(bundle string) string { return filepath.Join(bundle, "pid") }

// watch finds the container's first process. A runtime that has put it into a control group of its own gets it taken out
// of there again, so that what it uses is counted with ours.
func (d *oci) watch(cmd *exec.Cmd, group *limits.Group, bundle string) (tree, error) {
	if d.runtime.kernel {
		return watchRuntime(cmd, pidFile(bundle))
	}
	pid, err := awaitPid1(pidFile(bundle))
	if err == nil && d.runtime.ownGroup {
		err = group.Add(pid)
	}
	if err != nil {
		return nil, err
	}
	return watchNamespace(pid)
}

// awaitPid1 waits until the runtime has written down which process is the container's first. It does that about when it
// starts it, and nothing tells when it has.
func awaitPid1(file string) (int, error) {
	const patience, pause = 5 * time.Second, time.Millisecond
	for range patience / pause {
		if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
			return strconv.Atoi(string(text))
		}
		time.Sleep(pause)
	}
	return 0, errors.New("the runtime did not say which process is the container's first")
}

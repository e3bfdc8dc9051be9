package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// landlocked starts programs that see the host's names but may open none of its files beyond the read-only system, and no
// socket at all. It is for where no namespace can be made, such as in most containers.
type landlocked struct {
	*host
	filter []byte
}

// Versions of Landlock's interface: with the first, files can be moved between folders; only with the second can a program
// be kept from sending signals to the server, when both are of the same user.
const (
	landlockMoves   = 2
	landlockSignals = 6
)

// newLandlock returns the driver "landlock". That it can be made does not mean that it works here.
func newLandlock(context.Context, Options) (Driver, error) {
	need := landlockMoves
	if os.Geteuid() != 0 {
		need = landlockSignals
	}
	if version, err := landlocksys.LandlockGetABIVersion(); err != nil || version < need {
		return nil, fmt.Errorf("this kernel has Landlock %d (0 is none); %d is needed", max(version, 0), need)
	}
	filter, err := filterWithoutSockets()
	if err != nil {
		return nil, err
	}
	host, err := openHost()
	if err != nil {
		return nil, err
	}
	return &landlocked{host: host, filter: filter}, nil
}

func (d *landlocked) Name() string   { return "landlock" }
func (d *landlocked) OwnPaths() bool { return false }
func (d *landlocked) Close() error   { return d.close() }

func (d *landlocked) Enforcement() Enforcement {
	return d.enforcement(Enforcement{
		Driver: d.Name(), Level: LevelFiltered,
		Limits:  map[string]Strength{"memory": Soft, "tmp": Not, "processes": ofOwnUser(), "open_files": Hard, "file_size": Hard, "cpu": Not},
		Network: map[string]Strength{"none": Hard, "egress": Not},
		Notes:   []string{"Functions can open no socket, not even to themselves, and what they write to /tmp is not bounded."},
	})
}

func (d *landlocked) Start(ctx context.Context, spec Spec) (Instance, error) {
	if spec.Egress {
		return nil, errors.New("the driver landlock cannot give functions the internet without this host's network")
	}
	for _, m := range spec.Mounts {
		if m.Source != m.Target {
			return nil, fmt.Errorf("the driver %s cannot show %s at %s: it has no paths of its own", d.Name(), m.Source, m.Target)
		}
	}
	return d.launch(ctx, func(as *syscall.Credential) (*command, error) { return d.prepare(spec, as) })
}

func (d *landlocked) prepare(spec Spec, as *syscall.Credential) (*command, error) {
	tmp, err := d.makeTmp(as)
	if err != nil {
		return nil, err
	}
	l := d.perProcess(spec.Limits, as)
	plan := &shimPlan{
		Landlock: &landlockPlan{Tmp: tmp}, Filter: d.filter, Dir: tmp,
		Argv: gated(l, becomeProgram, spec.Argv), Env: append(homeIn(tmp), spec.Env...),
	}
	for _, m := range spec.Mounts {
		plan.Landlock.Read = append(plan.Landlock.Read, m.Source)
	}
	if as != nil {
		plan.Switch, plan.UID, plan.GID = true, int(as.Uid), int(as.Gid)
	}
	c, err := shimCommand(plan)
	if err != nil {
		return nil, errors.Join(err, removeAll(tmp))
	}
	c.attributes, c.limits, c.watch = processAttributes(nil), spec.Limits, watchGroup(c, as, tmp)
	c.cleanup = func() error { return removeAll(tmp) }
	return c, nil
}

// landlockPlan is what a process may open of the host's files.
type landlockPlan struct {
	Read []string // folders, with all below
	Tmp  string   // the only one to write to
}

// Of the system, a program may read this. Below /proc it has what is its own, and what runtimes ask the kernel for.
var (
	readableFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc/self"}
	readableFiles   = []string{
		"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/ssl/openssl.cnf",
		"/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/uptime", "/proc/loadavg", "/proc/version",
		"/proc/sys/vm/overcommit_memory", "/proc/sys/vm/max_map_count",
	}
	usableDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
)

func (p *landlockPlan) enforce() error {
	rules := []landlock.Rule{
		landlock.RWDirs(p.Tmp).WithRefer(),
		landlock.ROFiles(readableFiles...).IgnoreIfMissing(),
		landlock.RWFiles(usableDevices...).IgnoreIfMissing(),
	}
	for _, path := range slices.Concat(readableFolders, certificateFolders, []string{linkFolder}, tables, p.Read) {
		info, err := os.Stat(path)
		switch {
		case err != nil:
		case info.IsDir():
			rules = append(rules, landlock.RODirs(path))
		default:
			rules = append(rules, landlock.ROFiles(path))
		}
	}
	if err := landlock.V11.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("restrict files: %w", err)
	}
	return nil
}

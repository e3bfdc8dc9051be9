package limits

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
)

// Group is a set of processes with limits: who is in it, and everything that they start. Its methods may be called at any
// time, by anybody.
type Group struct {
	unified bool
	manager cgroups.Manager // nil: a group that bounds nothing
	folders []string
	folder  *os.File // of cgroup v2

	mu       sync.Mutex // of what follows
	closed   bool
	counters counters
}

func newGroup(unified bool, folders map[string]string, b Bounds) (g *Group, err error) {
	resources := resourcesOf(unified, folders, b)
	g = &Group{unified: unified, folders: slices.Sorted(maps.Values(folders))}
	g.folders = slices.Compact(g.folders)
	if unified {
		g.manager, err = fs2.NewManager(&cgroups.Cgroup{Resources: resources}, g.folders[0])
	} else {
		g.manager, err = fs.NewManager(&cgroups.Cgroup{Resources: resources}, maps.Clone(folders))
	}
	if err == nil {
		err = g.set(resources)
	}
	if err == nil && unified {
		g.folder, err = os.Open(g.folders[0])
	}
	if err == nil {
		g.counters = openCounters(unified, folders)
	}
	return g, err
}

// setting is held while limits are set: the library finds out some of its file names on the way, in variables that all groups
// share.
var setting sync.Mutex

func (g *Group) set(resources *cgroups.Resources) error {
	setting.Lock()
	defer setting.Unlock()
	return g.manager.Set(resources)
}

// resourcesOf leaves out what the host does not enforce, since setting it would be an error.
func resourcesOf(unified bool, folders map[string]string, b Bounds) *cgroups.Resources {
	r := &cgroups.Resources{SkipDevices: true}
	if folders[memory] != "" && b.MemoryMB > 0 {
		r.Memory = int64(b.MemoryMB) << 20
		if unified {
			r.MemorySwap, r.Unified = r.Memory, map[string]string{"memory.oom.group": "1"}
		} else if cgroups.PathExists(filepath.Join(folders[memory], "memory.memsw.limit_in_bytes")) {
			r.MemorySwap = r.Memory // of both together
		}
	}
	if processes := int64(b.Processes); folders[pids] != "" && processes > 0 {
		r.PidsLimit = &processes
	}
	if folders[cpu] != "" && b.CPUs > 0 {
		r.CpuPeriod, r.CpuQuota = 100_000, int64(b.CPUs*100_000)
	}
	return r
}

// Add moves a process into the group, with its threads but without the processes it has started already: so it should
// wait, and go on when it is in.
func (g *Group) Add(pid int) error {
	if g.manager == nil {
		return nil
	}
	if err := g.manager.AddPid("", pid); err != nil {
		return fmt.Errorf("add a process to its control group: %w", err)
	}
	return nil
}

// Bounded tells whether there is a group at all.
func (g *Group) Bounded() bool { return g.manager != nil }

// Processes counts the processes in the group.
func (g *Group) Processes() (int, error) {
	if g.manager == nil {
		return 0, nil
	}
	running, err := cgroups.GetPids(g.folders[0])
	return len(running), err
}

// OOMKilled tells whether the kernel has killed a process of the group because of its memory limit. It
// is false after Close.
func (g *Group) OOMKilled() bool {
	if g.manager == nil {
		return false
	}
	kills, err := g.manager.OOMKillCount()
	return err == nil && kills > 0
}

// Freeze stops every process of the group until it is called with false. It returns when they have stopped.
func (g *Group) Freeze(frozen bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.manager == nil || g.closed || g.manager.Path(freezer) == "" {
		return nil
	}
	state := cgroups.Thawed
	if frozen {
		state = cgroups.Frozen
	}
	return g.manager.Freeze(state)
}

// Kill ends every process of the group. They may need a moment after it has returned.
func (g *Group) Kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.manager != nil && !g.closed {
		_ = endAll(g.folders...) // Close finds and tells what could not be ended
	}
}

// Close kills what still runs in the group and removes it. It waits up to a second for the kernel to have ended everything.
func (g *Group) Close() error {
	g.Kill()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.manager == nil || g.closed {
		return nil
	}
	g.closed = true
	g.counters.close()
	_ = g.folder.Close()
	if err := g.manager.Destroy(); err != nil {
		return fmt.Errorf("remove a control group: %w", err)
	}
	return nil
}

package limits

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/opencontainers/cgroups"
)

// Tree is where this server makes its groups. Its folders carry a lock, so that other servers leave them alone for as long
// as this one lives, and remove them when it was killed.
type Tree struct {
	unified bool              // cgroup v2: one folder for all controllers
	folders map[string]string // of this server, by controller; one that is not here is not enforced
	locks   []*os.File
	notes   []string
	groups  atomic.Int64
}

// Open finds out what this host allows and removes what dead servers left behind. On cgroup v2 it may move the server and
// its neighbours in the same group into a group "server" below, since only a group without processes may divide what it has.
func Open() *Tree {
	removeDead(mountpoints())
	tree, err := openHierarchies()
	if err == nil {
		err = tree.try()
	}
	if err == nil {
		return tree
	}
	if tree != nil {
		_ = tree.Close()
	}
	return &Tree{notes: []string{fmt.Sprintf("No control group can be made here (%v): memory is limited per process, and "+
		"processes and processor time are not shared out. Start the server as root, or by systemd with Delegate=yes.", err)}}
}

func openHierarchies() (*Tree, error) {
	if cgroups.IsCgroup2UnifiedMode() {
		return openV2(unifiedMount)
	}
	return openV1()
}

// try makes a group and removes it again: what works now works later.
func (t *Tree) try() error {
	group, err := t.New(Bounds{MemoryMB: 64, Processes: 64, CPUs: 1})
	if err != nil {
		return err
	}
	return group.Close()
}

// New makes a group, which costs less than a millisecond.
func (t *Tree) New(b Bounds) (*Group, error) {
	if len(t.folders) == 0 {
		return &Group{}, nil
	}
	folders, name := map[string]string{}, strconv.FormatInt(t.groups.Add(1), 10)
	for controller, folder := range t.folders {
		folders[controller] = filepath.Join(folder, name)
		if err := os.Mkdir(folders[controller], 0o755); err != nil && !os.IsExist(err) { // two controllers may share a folder
			return nil, discard(folders, err)
		}
	}
	group, err := newGroup(t.unified, folders, b)
	if err != nil {
		return nil, discard(folders, err)
	}
	return group, nil
}

func discard(folders map[string]string, err error) error {
	_ = cgroups.RemovePaths(folders)
	return fmt.Errorf("make a control group: %w", err)
}

// Hard names the limits that the kernel keeps here for a group as a whole: "memory", "processes", "cpu".
func (t *Tree) Hard() []string {
	var hard []string
	for _, limit := range []struct{ name, controller string }{{"memory", memory}, {"processes", pids}, {"cpu", cpu}} {
		if t.folders[limit.controller] != "" {
			hard = append(hard, limit.name)
		}
	}
	return hard
}

// Freezes tells whether groups can be frozen.
func (t *Tree) Freezes() bool { return t.folders[freezer] != "" }

// Notes tell the operator why something is not enforced.
func (t *Tree) Notes() []string { return t.notes }

// Close removes the server's own folders. Its groups must be closed by then.
func (t *Tree) Close() error {
	err := cgroups.RemovePaths(distinct(t.folders))
	for _, lock := range t.locks {
		_ = lock.Close()
	}
	t.folders, t.locks = nil, nil
	if err != nil {
		return fmt.Errorf("remove the server's control groups: %w", err)
	}
	return nil
}

// distinct copies the map for functions that empty theirs.
func distinct(folders map[string]string) map[string]string {
	once := map[string]string{}
	for _, folder := range folders {
		once[folder] = folder
	}
	return once
}

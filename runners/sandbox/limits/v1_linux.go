package limits

import (
	"fmt"
	"strings"

	"github.com/opencontainers/cgroups"
)

// The controllers that are used, by their names in cgroup v1. In v2 accounting belongs to "cpu", and every group has the
// freezer.
const (
	freezer    = "freezer"
	memory     = "memory"
	pids       = "pids"
	cpu        = "cpu"
	accounting = "cpuacct"
)

// The freezer comes first: where it is swept first, nothing that is frozen is met in the other hierarchies.
var controllers = []string{freezer, memory, pids, cpu, accounting}

// mountpoints are where to look for what dead servers left.
func mountpoints() []string {
	if cgroups.IsCgroup2UnifiedMode() {
		return []string{unifiedMount}
	}
	var mounts []string
	for _, controller := range controllers {
		if mount, err := cgroups.FindCgroupMountpoint("", controller); err == nil {
			mounts = append(mounts, mount)
		}
	}
	return mounts
}

// openV1 makes a folder for this server in each hierarchy, below the group in which the server runs itself: so its own
// limits hold for functions as well.
func openV1() (*Tree, error) {
	tree := &Tree{folders: map[string]string{}}
	made, missing := map[string]string{}, []string{}
	var refused error
	for _, controller := range controllers {
		own, err := cgroups.GetOwnCgroupPath(controller)
		if err == nil && made[own] == "" {
			made[own], err = tree.claim(own)
		}
		if err != nil {
			missing, refused = append(missing, controller), err
			continue
		}
		tree.folders[controller] = made[own]
	}
	if len(tree.folders) == 0 {
		return tree, refused
	}
	if len(missing) > 0 {
		tree.notes = append(tree.notes, fmt.Sprintf("cgroup v1 does not give: %s (%v)", strings.Join(missing, ", "), refused))
	}
	return tree, nil
}

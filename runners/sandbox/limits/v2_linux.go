package limits

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

const (
	unifiedMount = "/sys/fs/cgroup"
	serverLeaf   = "server" // where the server's own processes go
	divided      = "cgroup.subtree_control"
)

// openV2 makes a folder for this server below the group that it may divide.
func openV2(mount string) (*Tree, error) {
	parent, err := divisible(mount)
	if err != nil {
		return nil, err
	}
	given, err := divide(parent)
	if err != nil {
		return nil, err
	}
	tree := &Tree{unified: true, folders: map[string]string{}}
	own, err := tree.claim(parent)
	if err != nil {
		return nil, err
	}
	for _, controller := range given {
		if err := cgroups.WriteFile(own, divided, "+"+controller); err != nil {
			return tree, err
		}
		tree.folders[controller] = own
	}
	tree.folders[freezer] = own
	if missing := without([]string{memory, pids, cpu}, given); len(missing) > 0 {
		tree.notes = append(tree.notes, fmt.Sprintf("cgroup v2 does not give: %s (in %s)", strings.Join(missing, ", "), parent))
	}
	return tree, nil
}

// divisible returns the group below which this server may make groups: its own one, when systemd or a container manager
// has delegated it. To root everything is open, but what a unit is not given is systemd's: root goes to the top then, as
// container engines do.
func divisible(mount string) (string, error) {
	paths, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	own := filepath.Join(mount, paths[""])
	if filepath.Base(own) == serverLeaf { // a server started by a server, or in its place
		own = filepath.Dir(own)
	}
	if os.Geteuid() == 0 && !delegated(own) {
		return mount, nil
	}
	return own, nil
}

func delegated(folder string) bool {
	for _, attribute := range []string{"trusted.delegate", "user.delegate"} {
		value := make([]byte, 1)
		if n, err := unix.Getxattr(folder, attribute, value); err == nil && n == 1 && value[0] == '1' {
			return true
		}
	}
	return false
}

// divide lets the groups below a group have limits of their own, and returns the controllers for which that worked.
func divide(parent string) ([]string, error) {
	names, err := cgroups.ReadFile(parent, "cgroup.controllers")
	if err != nil {
		return nil, err
	}
	var given []string
	for _, controller := range []string{memory, pids, cpu} {
		if !slices.Contains(strings.Fields(names), controller) {
			continue
		}
		err := enable(parent, controller)
		if errors.Is(err, unix.EBUSY) {
			err = errors.Join(vacate(parent), enable(parent, controller))
		}
		if err == nil {
			given = append(given, controller)
		}
	}
	return given, nil
}

func enable(parent, controller string) error {
	enabled, err := cgroups.ReadFile(parent, divided)
	if err == nil && slices.Contains(strings.Fields(enabled), controller) {
		return nil
	}
	return cgroups.WriteFile(parent, divided, "+"+controller)
}

// vacate moves what runs in a group into a leaf below it.
func vacate(parent string) error {
	leaf := filepath.Join(parent, serverLeaf)
	if err := os.Mkdir(leaf, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	for range 10 { // what they fork meanwhile is found in the next round
		running, err := cgroups.GetPids(parent)
		if err != nil || len(running) == 0 {
			return err
		}
		for _, pid := range running {
			_ = cgroups.WriteCgroupProc(leaf, pid) // it may have ended
		}
	}
	return fmt.Errorf("processes stay in %s", parent)
}

func without(all, some []string) (rest []string) {
	for _, one := range all {
		if !slices.Contains(some, one) {
			rest = append(rest, one)
		}
	}
	return rest
}

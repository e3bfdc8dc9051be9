package limits

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// folderPrefix begins the names of servers' folders.
const folderPrefix = "voltrun-"

// claim makes a folder for this server and locks it. The kernel lets go of the lock when the server ends, however it does:
// an unlocked folder belongs to nobody. Other users cannot open it.
func (t *Tree) claim(parent string) (string, error) {
	const attempts = 3
	for range attempts {
		folder, err := os.MkdirTemp(parent, folderPrefix)
		if err != nil {
			return "", err
		}
		lock, err := lockFolder(folder)
		if err == nil && cgroups.PathExists(folder) {
			t.locks = append(t.locks, lock)
			return folder, nil
		}
		if lock != nil {
			_ = lock.Close()
		}
	}
	return "", errors.New("other servers keep removing the new control group")
}

func lockFolder(folder string) (*os.File, error) {
	file, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// removeDead ends what dead servers left running and removes their folders, wherever below the mount points they are: a
// server may run in another group than the one before it.
func removeDead(mounts []string) {
	removed := 0
	for _, mount := range mounts {
		_ = filepath.WalkDir(mount, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() || !strings.HasPrefix(entry.Name(), folderPrefix) {
				return nil
			}
			if lock, err := lockFolder(path); err == nil {
				err := errors.Join(endAll(path), cgroups.RemovePath(path))
				if err == nil {
					removed++
				} else if !errors.Is(err, os.ErrPermission) { // else it is another user's
					slog.Warn("A control group of a server that is dead cannot be removed", "group", path, "error", err)
				}
				_ = lock.Close()
			}
			return fs.SkipDir
		})
	}
	if removed > 0 {
		slog.Info("Removed control groups of servers that are dead", "groups", removed)
	}
}

// endAll kills everything in folders and below them. Since Linux 5.14 the kernel does that at a stroke in cgroup v2. Else
// nothing may fork or run meanwhile, so that none can get away.
func endAll(folders ...string) error {
	if len(folders) == 1 && cgroups.WriteFile(folders[0], "cgroup.kill", "1") == nil {
		return nil
	}
	const rounds = 1000
	folders = withBelow(folders)
	writeAll(folders, "pids.max", "0")
	for range rounds {
		writeAll(folders, "freezer.state", string(cgroups.Frozen))
		killed := killIn(folders)
		writeAll(folders, "freezer.state", string(cgroups.Thawed)) // the killed die when they go on
		if killed == 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("processes in it do not end")
}

func withBelow(folders []string) (all []string) {
	for _, folder := range folders {
		_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				all = append(all, path)
			}
			return nil
		})
	}
	return all
}

// writeAll writes to those folders that have the file.
func writeAll(folders []string, file, value string) {
	for _, folder := range folders {
		_ = cgroups.WriteFile(folder, file, value)
	}
}

func killIn(folders []string) (killed int) {
	for _, folder := range folders {
		running, _ := cgroups.GetPids(folder)
		for _, pid := range running {
			if pid > 0 && unix.Kill(pid, unix.SIGKILL) == nil { // 0 is one of another pid namespace, and would be us
				killed++
			}
		}
	}
	return killed
}

package privatepg

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent makes the kernel send the child a signal when the thread that started it ends.
func dieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }

// disguise puts the child into a user namespace in which the account's uid bears another number.
func disguise(attr *syscall.SysProcAttr, a account) {
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: a.inside, HostID: a.uid, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: a.inside, HostID: a.gid, Size: 1}}
}

// initdbSync is how initdb makes the cluster durable: not at all, because one call of syncFilesystem does it faster than
// initdb file by file.
var initdbSync = []string{"--no-sync"}

// syncFilesystem makes everything durable that was written to the file system of dir.
func syncFilesystem(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Syncfs(int(file.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// systemSettings are the Postgres settings that depend on the machine.
func systemSettings() map[string]string {
	settings := map[string]string{"recovery_init_sync_method": "syncfs"} // a crash costs one call, not one a file
	var stat unix.Statfs_t
	err := unix.Statfs("/dev/shm", &stat)
	if err != nil || stat.Blocks*uint64(stat.Bsize) < 64<<20 {
		settings["dynamic_shared_memory_type"] = "mmap" // containers tend to have little or no /dev/shm
	}
	return settings
}

// serversIn returns the ids of the Postgres processes that work in a cluster's folder. Zombies are none.
func serversIn(dir string) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && worksIn(filepath.Join("/proc", entry.Name()), dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// worksIn tells whether a process is a Postgres of the cluster in dir. Every Postgres process has that as its working
// directory, but root in a container may not see another user's; and a main process names it in its arguments.
func worksIn(proc, dir string) bool {
	name, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil || strings.TrimSpace(string(name)) != "postgres" {
		return false
	}
	if cwd, err := os.Readlink(filepath.Join(proc, "cwd")); err == nil && cwd == dir {
		return true
	}
	arguments, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	return err == nil && slices.Contains(strings.Split(string(arguments), "\x00"), dir)
}

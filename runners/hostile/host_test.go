package hostile

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hostState is what a server must leave as it was.
type hostState struct {
	settings  []string
	mounts    []string // of the server's folders
	files     []string // in the server's temporary folder
	locks     int      // of users that functions run as
	processes []string // that the server has started, directly or not
}

func stateOf(t *testing.T) hostState {
	t.Helper()
	return hostState{settings: settings(t), mounts: mounts(t), files: temporaryFiles(t), locks: userLocks(t), processes: descendants(t)}
}

// settings are what whoever is root on a host changes first.
func settings(t *testing.T) (values []string) {
	t.Helper()
	for _, path := range []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe", "/proc/swaps"} {
		value, err := os.ReadFile(path)
		require.True(t, err == nil || os.IsNotExist(err), "%v", err)
		values = append(values, string(value))
	}
	return values
}

func mounts(t *testing.T) (found []string) {
	t.Helper()
	list, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	for _, line := range strings.Split(string(list), "\n") {
		if strings.Contains(line, os.TempDir()) || strings.Contains(line, "voltrun-run") {
			found = append(found, line)
		}
	}
	return found
}

func temporaryFiles(t *testing.T) (found []string) {
	t.Helper()
	entries, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "Test") && !strings.HasPrefix(entry.Name(), "voltrun-pg") {
			found = append(found, entry.Name())
		}
	}
	return found
}

// userLocks counts how many users this process holds for functions.
func userLocks(t *testing.T) (locks int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range open {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if filepath.Base(target) == "voltrun-users" {
			about, _ := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
			locks += bytes.Count(about, []byte("\nlock:"))
		}
	}
	return locks
}

// process is what the host knows of one.
type process struct {
	pid, parent int
	state       string
	line        string
}

func processes() (all []process) {
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		if p, ok := processIn(folder); ok {
			all = append(all, p)
		}
	}
	return all
}

func processIn(folder string) (p process, ok bool) {
	stat, err := os.ReadFile(folder + "/stat")
	at := bytes.LastIndexByte(stat, ')')
	if err != nil || at < 0 {
		return p, false
	}
	fields := strings.Fields(string(stat[at+1:]))
	line, _ := os.ReadFile(folder + "/cmdline")
	p = process{state: fields[0], line: strings.ReplaceAll(string(line), "\x00", " ")}
	p.pid, _ = strconv.Atoi(filepath.Base(folder))
	p.parent, _ = strconv.Atoi(fields[1])
	return p, true
}

// descendants lists what this process has started, and what that has, without the Postgres.
func descendants(t *testing.T) (found []string) {
	t.Helper()
	ours := map[int]bool{os.Getpid(): true}
	all := processes()
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if ours[p.parent] && !ours[p.pid] && !strings.Contains(p.line, "postgres") {
				ours[p.pid], grown = true, true
				found = append(found, fmt.Sprintf("%d %s %s", p.pid, p.state, p.line))
			}
		}
	}
	slices.Sort(found)
	return found
}

// marked finds processes whose command line has a word.
func marked(mark string) (pids []int) {
	for _, p := range processes() {
		if p.state != "Z" && strings.Contains(p.line, mark) && !strings.Contains(p.line, ".test") {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// stopped tells whether a process is over or stands still for a signal.
func stopped(pid int) bool {
	p, ok := processIn(fmt.Sprintf("/proc/%d", pid))
	return !ok || strings.Contains("TtZX", p.state)
}

// processOf finds the process of a user, by its number outside.
func processOf(t *testing.T, uid string) int {
	t.Helper()
	for _, p := range processes() {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
		if strings.Contains(string(status), "\nUid:\t"+uid+"\t") && strings.Contains(p.line, "python.py") {
			return p.pid
		}
	}
	t.Skip("only as root functions have users of their own, by whom they can be found")
	return 0
}

// groupOf finds the name of the folder in which a server has its control groups, "" where there are none.
func groupOf(t *testing.T, pid int) string {
	t.Helper()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	require.NoError(t, err)
	for _, part := range strings.FieldsFunc(string(list), func(c rune) bool { return c == '/' || c == '\n' }) {
		if strings.HasPrefix(part, "voltrun-") {
			return part
		}
	}
	return ""
}

func controlGroups(t *testing.T, name string) (found []string) {
	t.Helper()
	if name == "" {
		return nil
	}
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == name {
			found = append(found, path)
		}
		return nil // others come and go
	})
	require.NoError(t, err)
	return found
}

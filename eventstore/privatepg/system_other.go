//go:build !linux

package privatepg

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent does nothing here: the kernel has no such service. After a kill -9 of this process Postgres lives on
// until the next start shuts it down.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// disguise does nothing here: there are no user namespaces, and Postgres itself will say that it does not run as root.
func disguise(*syscall.SysProcAttr, account) {}

// initdbSync is how initdb makes the cluster durable: by itself, because sync(2) may return too early.
var initdbSync []string

// syncFilesystem asks for everything to be made durable that was written.
func syncFilesystem(string) error { return syscall.Sync() }

// systemSettings are the Postgres settings that depend on the machine.
func systemSettings() map[string]string { return nil }

// serversIn returns the ids of the Postgres main processes that serve a cluster's folder.
func serversIn(dir string) []int {
	output, err := exec.Command("ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.Lines(string(output)) {
		number, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(number)
		if err == nil && strings.Contains(command, "/postgres -D "+dir+" ") {
			pids = append(pids, pid)
		}
	}
	return pids
}

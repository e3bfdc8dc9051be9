package limits

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// counters are the files that tell what a group uses, opened once: reading them costs about a microsecond each. They are
// plain descriptors, because the runtime's poller would watch *os.Files of this file system. One that is not there is -1.
type counters struct {
	current, peak, cpu, tasks int
	cpuUnit                   time.Duration
}

func openCounters(unified bool, folders map[string]string) counters {
	if unified {
		folder := folders[freezer]
		return counters{
			current: open(folder, "memory.current"), peak: openPeak(folder, "memory.peak"), cpu: open(folder, "cpu.stat"), cpuUnit: time.Microsecond,
			tasks: open(folders[pids], "pids.current"),
		}
	}
	return counters{
		current: open(folders[memory], "memory.usage_in_bytes"), peak: openPeak(folders[memory], "memory.max_usage_in_bytes"),
		cpu: open(folders[accounting], "cpuacct.usage"), cpuUnit: time.Nanosecond,
		tasks: open(folders[pids], "pids.current"),
	}
}

func open(folder, file string) int { return openAs(folder, file, unix.O_RDONLY) }

// openPeak opens a peak for resetting it where that can be done: in cgroup v2 the reset holds for this descriptor.
func openPeak(folder, file string) int {
	if fd := openAs(folder, file, unix.O_RDWR); fd >= 0 {
		return fd
	}
	return open(folder, file)
}

func openAs(folder, file string, mode int) int {
	if folder == "" {
		return -1
	}
	fd, err := unix.Open(filepath.Join(folder, file), mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

func (c *counters) close() {
	for _, fd := range []*int{&c.current, &c.peak, &c.cpu, &c.tasks} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
		}
		*fd = -1
	}
}

// Usage tells what the group uses. It costs a few microseconds.
func (g *Group) Usage() Usage {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.manager == nil || g.closed {
		return Usage{}
	}
	c := &g.counters
	return Usage{MemoryBytes: number(c.current), PeakBytes: number(c.peak), CPU: time.Duration(number(c.cpu)) * c.cpuUnit}
}

// Tasks counts the group's processes with their threads. It costs about a microsecond; 0 is unknown.
func (g *Group) Tasks() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.manager == nil || g.closed {
		return 0
	}
	return int(number(g.counters.tasks))
}

// ResetPeak lets the peak begin anew, at what is used now.
func (g *Group) ResetPeak() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.manager != nil && !g.closed && g.counters.peak >= 0 {
		_, _ = unix.Pwrite(g.counters.peak, []byte("0"), 0) // refused where the kernel cannot
	}
}

// number reads the first number of a counter, which is 0 when it is not there.
func number(fd int) (n int64) {
	if fd < 0 {
		return 0
	}
	text := make([]byte, 64)
	length, err := unix.Pread(fd, text, 0)
	if err != nil {
		return 0
	}
	found := false
	for _, c := range text[:length] {
		if c >= '0' && c <= '9' {
			n, found = n*10+int64(c-'0'), true
		} else if found {
			return n
		}
	}
	return n
}

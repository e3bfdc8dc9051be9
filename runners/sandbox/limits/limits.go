// Package limits bounds groups of processes through the kernel's control groups: memory, processes and processor time, of
// everything that a process starts as well. It also counts what a group uses, and stops, freezes and ends it as a whole.
//
// Not every server may make control groups. Where it may not, a Tree makes groups that bound nothing, and says so: what
// needs a limit then has to find another one.
package limits

import "time"

// Bounds are the limits of a group, those who start its program included. 0 is no limit.
type Bounds struct {
	MemoryMB  int // resident, with what is written to a tmpfs; there is no swap beyond it
	Processes int // with threads
	CPUs      float64
}

// Usage is what a group uses. What cannot be known here is 0.
type Usage struct {
	MemoryBytes int64
	PeakBytes   int64 // since the last ResetPeak, or since the start where Linux cannot reset it (cgroup v2 before 6.12)
	CPU         time.Duration
}

package sandbox

import (
	"os"
	"os/exec"
)

// bounds keeps the limits of a whole tree of processes.
type bounds struct{}

func newBounds(Limits) (*bounds, error) { return &bounds{}, nil }

// whole tells whether memory and processes are bounded for the tree, so that its gate need not.
func (b *bounds) whole() bool { return false }

// spawn starts the process within the bounds.
func (b *bounds) spawn(cmd *exec.Cmd) error { return spawn(cmd) }

func (b *bounds) freeze(bool) error { return nil }
func (b *bounds) resetPeak()        {}
func (b *bounds) kill()             {}
func (b *bounds) close() error      { return nil }

// usage tells what is used now; program is the pid to ask where the tree is not counted.
func (b *bounds) usage(program int) Usage {
	peak := peakMemory(program)
	return Usage{MemoryBytes: peak, PeakBytes: peak}
}

// last tells what was used until the end, and whether that was too much memory.
func (b *bounds) last(state *os.ProcessState) (Usage, bool) {
	return Usage{CPU: state.UserTime() + state.SystemTime(), PeakBytes: exitMemory(state)}, false
}

//go:build !linux

package limits

import "os/exec"

// Tree makes groups that bound nothing: only Linux has control groups.
type Tree struct{}

// Group bounds nothing.
type Group struct{}

// Open returns the tree of a host without control groups.
func Open() *Tree { return &Tree{} }

// New returns a group that bounds nothing.
func (t *Tree) New(Bounds) (*Group, error) { return &Group{}, nil }

// Hard is empty.
func (t *Tree) Hard() []string { return nil }

// Freezes is false.
func (t *Tree) Freezes() bool { return false }

// Notes tell the operator why nothing is enforced.
func (t *Tree) Notes() []string {
	return []string{"Only Linux has control groups: memory is limited per process."}
}

// Close does nothing.
func (t *Tree) Close() error { return nil }

// Add does nothing.
func (g *Group) Add(int) error { return nil }

// Start starts the command.
func (g *Group) Start(cmd *exec.Cmd, start func(*exec.Cmd) error) error { return start(cmd) }

// Bounded is false.
func (g *Group) Bounded() bool { return false }

// Processes is 0: nothing is counted.
func (g *Group) Processes() (int, error) { return 0, nil }

// Tasks is 0: nothing is counted.
func (g *Group) Tasks() int { return 0 }

// OOMKilled is false.
func (g *Group) OOMKilled() bool { return false }

// Freeze does nothing.
func (g *Group) Freeze(bool) error { return nil }

// Usage is zero.
func (g *Group) Usage() Usage { return Usage{} }

// ResetPeak does nothing.
func (g *Group) ResetPeak() {}

// Kill does nothing.
func (g *Group) Kill() {}

// Close does nothing.
func (g *Group) Close() error { return nil }

// Package sandbox starts processes that reach nothing but what they are given, and ends them with everything that they
// have started.
//
// There are several ways to do that, called drivers, and a host allows some of them. Choose finds the strongest one that
// works here, by really starting a process in it which tries to get out.
package sandbox

import (
	"context"
	"os"
	"time"
)

// Driver is one way to isolate processes.
type Driver interface {
	// Name is the word by which the driver is asked for.
	Name() string

	// Start starts a process. It returns when the program was executed; ctx ends only the start. Whatever the spec asks
	// for and the driver cannot enforce here is an error, unless Enforcement says so of this host.
	Start(ctx context.Context, spec Spec) (Instance, error)

	// OwnPaths tells whether mounts appear at their targets. Where a driver cannot do that, source and target of each mount
	// must be the same.
	OwnPaths() bool

	// Enforcement tells what the driver enforces on this host.
	Enforcement() Enforcement

	// Close lets go of what the driver holds on the host. No instance may live any more.
	Close() error
}

// Spec is what a process gets. It starts in its folder for temporary files, which is HOME and TMPDIR as well, and is /tmp
// where the driver has paths of its own. Nothing else of the host is visible to it but the read-only system.
type Spec struct {
	Argv   []string // the program and its arguments, by their paths in the sandbox
	Env    []string // the environment beside HOME and TMPDIR; it is visible on the host, so nothing secret stands in it
	Mounts []Mount  // read-only, in addition to the system
	Limits Limits
	Egress bool // may reach the internet, but nothing of this host or its private networks; else only its own loopback
}

// Mount shows a folder of the host in the sandbox, read-only.
type Mount struct {
	Source string // what appears in it later is seen at once
	Target string
}

// Limits bound a process with all of its children.
type Limits struct {
	MemoryMB  int     // resident, what it writes to /tmp included
	TmpMB     int     // of /tmp, its only writable folder
	Processes int     // with threads
	OpenFiles int     // of one process
	FileMB    int     // the largest file
	CPUs      float64 // how many processors' time it may use; 0 is all
}

// Instance is a process in its sandbox.
type Instance interface {
	// Requests is the writing end of the process's descriptor 3, Answers the reading end of its descriptor 4, Stdout and
	// Stderr those of 1 and 2; its 0 is empty. They are non-blocking pipes with deadlines, and closed by Close.
	Requests() *os.File
	Answers() *os.File
	Stdout() *os.File
	Stderr() *os.File

	// Freeze stops every process of the instance until it is called with false. It does nothing where that is impossible.
	Freeze(frozen bool) error

	// Usage tells what the instance uses now, and its peak since the last ResetPeak. It is cheap enough for each call.
	Usage() Usage
	ResetPeak()

	// Processes counts what lives in the instance beside the program: 0 when the program has left no child behind.
	Processes() (int, error)

	// Kill ends everything at once. It may be called at any time, by anybody.
	Kill()

	// Done is closed when everything has ended; then Exit tells how. Close lets go of what the instance holds on the host:
	// the pipes, the user, the limits' bookkeeping.
	Done() <-chan struct{}
	Exit() Exit
	Close() error
}

// Usage is what an instance uses. What is not known here is 0.
type Usage struct {
	MemoryBytes int64
	PeakBytes   int64
	CPU         time.Duration // since the start
}

// Exit is how an instance ended.
type Exit struct {
	Code        int // as a shell tells it: 128 and the signal for a program that was ended by one
	Signal      int // 0 for a program that exited
	OutOfMemory bool
	Usage       Usage
}

// Level says how much stands between a process and the host.
type Level string

// The levels, from the weakest.
const (
	LevelNone      Level = "none"       // the user's own rights, and nothing more
	LevelFiltered  Level = "filtered"   // system calls and files are restricted, names of the host are shared
	LevelNamespace Level = "namespaces" // nothing of the host is visible
	LevelKernel    Level = "kernel"     // a kernel of its own in between, in user space or in a virtual machine
)

// Strength says how a limit is kept.
type Strength string

// The strengths, from the strongest.
const (
	Hard Strength = "hard" // the kernel keeps it for the whole tree of processes
	Soft Strength = "soft" // for each process on its own, or only looked at from time to time
	Not  Strength = "not"
)

// Enforcement is what a driver enforces on this host.
type Enforcement struct {
	Driver  string              `json:"driver"`
	Level   Level               `json:"level"`
	Limits  map[string]Strength `json:"limits"`  // memory, tmp, processes, open_files, file_size, cpu
	Network map[string]Strength `json:"network"` // none, egress
	Freeze  bool                `json:"freeze"`
	Notes   []string            `json:"notes,omitempty"` // why something is weaker than it could be, for the operator
}

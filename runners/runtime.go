package runners

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/voltrun/voltrun/domain"
)

// Interpreter is a Node.js or a Python that this host can run functions with.
type Interpreter struct {
	Python  bool
	Path    string // the real binary, never a version manager's shim
	Prefix  string // the folder of what it brings along, its libraries above all
	Version string // "20.20.2"
}

// Runtimes are the interpreters of this host.
type Runtimes struct{ byWord map[string]Interpreter }

// DiscoverRuntimes looks for interpreters in the usual places, and asks each for its version and its real path as a user
// without rights: one that this user may not execute is not there. It takes a fraction of a second.
func DiscoverRuntimes(ctx context.Context) *Runtimes {
	return newRuntimes(probeAll(ctx, unprivileged()))
}

// probeAll asks every candidate what it is, and returns those that can serve.
func probeAll(ctx context.Context, as *syscall.Credential) []*Interpreter {
	candidates := interpreterCandidates()
	found := make([]*Interpreter, len(candidates))
	var probes sync.WaitGroup
	for i, path := range candidates {
		probes.Go(func() { found[i] = probe(ctx, path, as) })
	}
	probes.Wait()
	return slices.DeleteFunc(found, func(i *Interpreter) bool { return i == nil })
}

func newRuntimes(found []*Interpreter) *Runtimes {
	r := &Runtimes{byWord: map[string]Interpreter{}}
	slices.SortFunc(found, preferred)
	for _, interpreter := range found {
		for _, word := range interpreter.words() {
			if _, taken := r.byWord[word]; !taken {
				r.byWord[word] = *interpreter
			}
		}
	}
	return r
}

// Available lists the runtime words that this host serves, in the order of domain.Runtimes.
func (r *Runtimes) Available() []string {
	return slices.DeleteFunc(domain.Runtimes(), func(word string) bool { _, ok := r.byWord[word]; return !ok })
}

// Resolve returns the interpreter for a runtime word; the bare words mean the newest version. The error is a
// *domain.Error with code Unavailable when this host has none, or has it no longer.
func (r *Runtimes) Resolve(word string) (Interpreter, error) {
	interpreter, err := r.lookup(word)
	if err != nil {
		return Interpreter{}, err
	}
	if _, err := os.Stat(interpreter.Path); err != nil {
		return Interpreter{}, domain.Errorf(domain.Unavailable,
			"The runtime %q was removed from this host. Install it again, or create the function anew with another runtime.", word)
	}
	return interpreter, nil
}

// lookup is Resolve without a look whether the interpreter is still there.
func (r *Runtimes) lookup(word string) (Interpreter, error) {
	interpreter, ok := r.byWord[word]
	if !ok {
		return Interpreter{}, domain.Errorf(domain.Unavailable,
			"The runtime %q is not installed on this host, which has: %s.", word, strings.Join(r.Available(), ", "))
	}
	return interpreter, nil
}

// words lists what a function may call the interpreter: the bare word, and the one with its version.
func (i *Interpreter) words() []string {
	if i.Python {
		return []string{"python", fmt.Sprintf("python3.%d", i.line())}
	}
	return []string{"nodejs", fmt.Sprintf("nodejs%d", i.line())}
}

// supported refuses what is older than anything that a function can ask for. What is newer serves the bare word.
func (i *Interpreter) supported() bool {
	if i.Python {
		return i.release()[0] == 3 && i.line() >= 9
	}
	return i.line() >= 18
}

// line is the number of the release line, within which code keeps working: 20 of Node.js 20.20.2, 11 of Python 3.11.2.
func (i *Interpreter) line() int {
	if i.Python {
		return i.release()[1]
	}
	return i.release()[0]
}

// release returns the version's three numbers.
func (i *Interpreter) release() []int {
	n := make([]int, 3)
	for at, part := range strings.SplitN(i.Version, ".", 3) {
		n[at], _ = strconv.Atoi(part)
	}
	return n
}

// foreign is 0 for the system's own interpreter, 1 for any other.
func (i *Interpreter) foreign() int {
	if filepath.Dir(i.Path) == "/usr/bin" {
		return 0
	}
	return 1
}

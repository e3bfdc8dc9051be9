package proof

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/voltrun/voltrun/eventstore"
)

// Report is what a check found.
type Report struct {
	Events   int64 // how many were checked
	Opened   int64 // payloads that fit their commitments
	Erased   int64 // payloads that were erased with their account, which nobody can open
	Archived int64 // payloads that are in the archive, which were not opened
	Signed   Head  // the newest head that fits; zero when none does

	// Locked is how many payloads were not checked because their data keys are wrapped by a master key that was not given.
	Locked map[eventstore.MasterKeyID]int64

	Sources  []Source  // where heads were found
	Problems []Problem // what is wrong, by position; empty when all is well
	Left     int       // how many problems more there are
	Remarks  []string  // what could not be checked
}

// Source is where heads were found.
type Source struct {
	Name  string
	Heads int
}

// Problem is something that is not as it was recorded and signed.
type Problem struct {
	Position int64 // where it begins; 0 when it belongs to no position
	Text     string
}

// mostProblems is how many problems a report tells. Whoever altered more has altered enough.
const mostProblems = 100

func (r *Report) add(position int64, format string, args ...any) {
	if len(r.Problems) == mostProblems {
		r.Left++
		return
	}
	r.Problems = append(r.Problems, Problem{position, fmt.Sprintf(format, args...)})
}

func (r *Report) remark(format string, args ...any) {
	r.Remarks = append(r.Remarks, fmt.Sprintf(format, args...))
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return cmp.Compare(a.Position, b.Position) })
}

package proof

import (
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// absences are the payloads that a bundle does not have, and the events in it that say why. The reason beside an absent payload
// is anybody's word; those events stand in the log that was signed.
type absences struct {
	erased   map[uuid.UUID]int64 // how many are said to be erased, by account
	erasures map[uuid.UUID]bool  // the accounts of which the log says that they were erased

	archived  map[archivable][]int64 // the positions of those that are said to be archived
	archivals []domain.LogArchived   // what the log says was archived
}

// archivable is what decides, beside its position, whether a payload was archived.
type archivable struct {
	kind    string
	account uuid.UUID
}

func newAbsences() *absences {
	return &absences{erased: map[uuid.UUID]int64{}, erasures: map[uuid.UUID]bool{}, archived: map[archivable][]int64{}}
}

func (a *absences) addArchived(leaf parsedLeaf) {
	key := archivable{leaf.kind, leaf.account}
	a.archived[key] = append(a.archived[key], leaf.position)
}

// noteErasure remembers the erasure of an account: its type and its stream say everything.
func (a *absences) noteErasure(leaf parsedLeaf) {
	if leaf.kind == accountErased {
		a.erasures[leaf.stream] = true
	}
}

// noteArchival remembers what an event with this content says was archived.
func (a *absences) noteArchival(leaf parsedLeaf, content string) {
	var fact domain.LogArchived
	if leaf.kind == fact.EventType() && json.Unmarshal([]byte(content), &fact) == nil {
		a.archivals = append(a.archivals, fact)
	}
}

// erasedUnproved is how many payloads are said to be erased of accounts of which the bundle does not show the erasure.
func (a *absences) erasedUnproved() (n int64) {
	for account, events := range a.erased {
		if !a.erasures[account] {
			n += events
		}
	}
	return n
}

// archivedUnproved is how many payloads are said to be archived by no event of the bundle.
func (a *absences) archivedUnproved() (n int64) {
	for key, positions := range a.archived {
		var facts []domain.LogArchived
		for _, fact := range a.archivals {
			if fact.Concerns(key.kind, key.account) {
				facts = append(facts, fact)
			}
		}
		for _, position := range positions {
			if !slices.ContainsFunc(facts, func(f domain.LogArchived) bool { return f.From <= position && position <= f.To }) {
				n++
			}
		}
	}
	return n
}

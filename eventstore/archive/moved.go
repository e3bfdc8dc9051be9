package archive

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Moved knows what the log itself says was moved to the archive. It is not safe for concurrent use.
type Moved struct {
	store *postgres.Store
	codec *eventstore.Codec
	facts []movedFact
	read  time.Time
}

// readAgain is how old the facts may be when they do not cover an event. A fact is there long before its payloads leave.
const readAgain = 10 * time.Millisecond

// movedFact is a fact with its accounts as sets.
type movedFact struct {
	domain.LogArchived
	accounts, except map[uuid.UUID]bool
}

// NewMoved makes a Moved of a log.
func NewMoved(store *postgres.Store, codec *eventstore.Codec) *Moved {
	return &Moved{store: store, codec: codec}
}

// Covers tells whether a fact of the log says that the payload of this event was moved. What stands in a table or lies in a
// folder does not count.
func (m *Moved) Covers(ctx context.Context, position eventstore.Position, eventType string, account uuid.UUID) (bool, error) {
	covers := func(f movedFact) bool {
		return int64(position) >= f.From && int64(position) <= f.To && slices.Contains(f.Types, eventType) &&
			slices.Contains(domain.ArchivableKinds(), eventType) &&
			(len(f.accounts) == 0 || f.accounts[account]) && !f.except[account]
	}
	if slices.ContainsFunc(m.facts, covers) {
		return true, nil
	}
	if time.Since(m.read) < readAgain {
		return false, nil
	}
	if err := m.readFacts(ctx); err != nil {
		return false, fmt.Errorf("read what was archived: %w", err)
	}
	return slices.ContainsFunc(m.facts, covers), nil
}

// readFacts reads the facts about all files. The table of the files only tells in which streams they are.
func (m *Moved) readFacts(ctx context.Context) error {
	rows, err := m.store.Pool().Query(ctx, "select file from archives")
	if err != nil {
		return err
	}
	files, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	m.facts, m.read = nil, time.Now()
	for _, file := range files {
		for stored, err := range m.store.ReadStream(ctx, fileStream(file), 0) {
			if err != nil {
				return err
			}
			event, err := m.codec.Decode(ctx, stored.NewEvent)
			if err != nil {
				return err
			}
			if fact, ok := event.(domain.LogArchived); ok {
				m.facts = append(m.facts, movedFact{fact, setOf(fact.Accounts), setOf(fact.Except)})
			}
		}
	}
	return nil
}

func setOf(accounts []uuid.UUID) map[uuid.UUID]bool {
	set := make(map[uuid.UUID]bool, len(accounts))
	for _, id := range accounts {
		set[id] = true
	}
	return set
}

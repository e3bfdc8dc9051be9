package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// History reads the log itself: everything that happened to an account and who did it, and what the read models said at
// any moment. It needs no projection, and what was appended is there at once.
type History struct {
	db      Database
	codec   *eventstore.Codec
	archive eventstore.Archive
}

// Database is a pgx pool or connection.
type Database interface {
	Querier
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// NewHistory makes a history over the log's database. archive may be nil: what was archived cannot be read then.
func NewHistory(db Database, codec *eventstore.Codec, archive eventstore.Archive) *History {
	return &History{db: db, codec: codec, archive: archive}
}

// Entry is an event as the API shows it.
type Entry struct {
	Position      Position        `json:"position"`
	ID            uuid.UUID       `json:"id"`
	Type          string          `json:"type"`
	SchemaVersion int             `json:"schema_version"` // the form of Data
	Subject       Subject         `json:"subject"`
	StreamID      uuid.UUID       `json:"stream_id"`
	Version       int             `json:"version"`               // place in its stream, from 1
	RecordedAt    time.Time       `json:"recorded_at"`           // first, and so in the log from which it was imported
	ImportedAt    *time.Time      `json:"imported_at,omitempty"` // recorded here
	Actor         Actor           `json:"actor"`
	CorrelationID *uuid.UUID      `json:"correlation_id"` // the request that it stems from
	CausationID   *uuid.UUID      `json:"causation_id"`   // the event or the request that caused it directly
	Data          json.RawMessage `json:"data"`           // as it was recorded, but for hashes of secrets; null when it cannot be read any more
	Erased        bool            `json:"erased,omitempty"`
	Archived      bool            `json:"archived,omitempty"`
}

// Subject is what an event is about. For nearly all it is the stream in which the event stands.
type Subject struct {
	Kind string    `json:"kind"` // "account", "execution", "function", "key", …
	ID   uuid.UUID `json:"id"`
}

// Actor is who caused an event.
type Actor struct {
	Kind   domain.ActorKind `json:"kind"`
	ID     *uuid.UUID       `json:"id,omitempty"`
	Prefix string           `json:"prefix,omitempty"` // of an API key
}

// subjectOf names the key for the use of a key, which stands in a stream beside the key's own.
func subjectOf(e eventstore.Event) Subject {
	kind, _, _ := strings.Cut(e.Type, ".")
	if e.Type == (domain.KeyUsed{}).EventType() {
		return Subject{kind, e.Actor.ID}
	}
	return Subject{kind, e.StreamID}
}

// entries opens what events say.
func (h *History) entries(ctx context.Context, events []eventstore.Event) ([]Entry, error) {
	entries := make([]Entry, len(events))
	for i, e := range events {
		entry, err := h.entry(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("read event %d: %w", e.Position, err)
		}
		entries[i] = entry
	}
	return entries, nil
}

func (h *History) entry(ctx context.Context, e eventstore.Event) (Entry, error) {
	entry := Entry{
		Position: e.Position, ID: e.ID, Type: e.Type, SchemaVersion: e.SchemaVersion, Subject: subjectOf(e),
		StreamID: e.StreamID, Version: e.Version, RecordedAt: e.HappenedAt(),
		Actor:         Actor{e.Actor.Kind, nullable(e.Actor.ID), e.Actor.Prefix},
		CorrelationID: nullable(e.CorrelationID), CausationID: nullable(e.CausationID),
	}
	if _, imported := e.Headers[eventstore.HeaderRecordedAt]; imported {
		entry.ImportedAt = &e.RecordedAt
	}
	e, err := h.fetch(ctx, e)
	if err != nil {
		return entry, err
	}
	disclosure, err := h.codec.Disclose(ctx, e.NewEvent)
	entry.Erased, entry.Archived = errors.Is(err, eventstore.ErrErased), errors.Is(err, eventstore.ErrArchived)
	if err != nil && !entry.Erased && !entry.Archived {
		return entry, err
	}
	if err == nil {
		entry.Data, err = shown(e.Type, eventstore.Content(disclosure))
		return entry, err
	}
	return entry, nil
}

// fetch returns an event with its payload: from the archive, when that has left the log. What comes from there has to be
// what the log is committed to.
func (h *History) fetch(ctx context.Context, e eventstore.Event) (eventstore.Event, error) {
	if e.Data != nil || h.archive == nil {
		return e, nil
	}
	payload, err := h.archive.Payload(ctx, e.Position)
	if errors.Is(err, eventstore.ErrDamaged) {
		return e, nil // as if the file were absent: voltrun audit verify names it
	}
	if err != nil {
		return e, fmt.Errorf("ask the archive: %w", err)
	}
	e.Data = payload
	disclosure, err := h.codec.Disclose(ctx, e.NewEvent)
	switch {
	case errors.Is(err, eventstore.ErrErased), errors.Is(err, eventstore.ErrArchived):
		return e, nil
	case err != nil:
		return e, err
	case eventstore.Commit(disclosure) != e.Commitment:
		return e, errors.New("the archive has another payload of it than the one that was recorded")
	}
	return e, nil
}

// nullable turns the nil UUID into nil.
func nullable(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

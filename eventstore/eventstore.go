// Package eventstore defines VoltRun's log: the one ordered record of everything that happened.
//
// Events stand in streams, one per aggregate, and in one global order. Positions count 1, 2, 3, … without a gap, over
// all streams, in the order in which the appends were committed: a reader that has seen position n has seen everything
// up to n. The time at which events were recorded never goes backwards along positions.
//
// The package holds the contract; eventstore/postgres keeps the log in Postgres, eventstore/memory in memory for tests,
// and eventstore/storetest is the suite that both pass.
package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Position is an event's place in the global order. The first event stands at 1; 0 is before everything.
type Position int64

// ExpectedVersion is what a writer believes of a stream: how many events it has.
type ExpectedVersion int

// New expects that the stream has no event yet, Any expects nothing.
const (
	New ExpectedVersion = 0
	Any ExpectedVersion = -1
)

// Exactly expects that the stream has n events.
func Exactly(n int) ExpectedVersion { return ExpectedVersion(n) }

// Metadata is what is recorded about an event beside the fact itself.
type Metadata struct {
	AccountID     uuid.UUID         // whose history the event belongs to; nil when nobody's
	Actor         domain.Actor      // who caused it
	CorrelationID uuid.UUID         // the same for everything that stems from one request
	CausationID   uuid.UUID         // the event or the request that caused it directly
	Headers       map[string]string // anything else, such as a Watermill message's metadata; nil most of the time
}

// NewEvent is an event to be appended.
type NewEvent struct {
	ID            uuid.UUID
	Type          string
	SchemaVersion int
	Data          []byte     // the payload, opaque to the store; nil in an event whose payload is in the archive
	Commitment    Commitment // to the payload, see Plain and Codec.Encode
	Metadata
}

// Event is an event as it stands in the log.
type Event struct {
	Position   Position
	StreamID   uuid.UUID
	Version    int // place in its stream, from 1
	RecordedAt time.Time
	NewEvent
}

// Write is the part of an append that goes to one stream. One without events is a guard: the append happens only while that
// stream is at the expected version.
type Write struct {
	StreamID uuid.UUID
	Expected ExpectedVersion
	Events   []NewEvent
}

// Store is the log.
type Store interface {
	// Append writes events to one or several streams, all or nothing, and returns the position of the last one when
	// they are durable. The events get consecutive positions in the order of the writes. Each stream may be named once,
	// and the first write has at least one event.
	//
	// The error is a *VersionConflict when a stream is not at its expected version; nothing was written then. When ctx
	// ends first the append may still happen: load the stream before you try again.
	Append(ctx context.Context, writes ...Write) (Position, error)

	// ReadStream yields the events of a stream with a version greater than afterVersion, in order. A stream that does
	// not exist is empty.
	ReadStream(ctx context.Context, streamID uuid.UUID, afterVersion int) iter.Seq2[Event, error]

	// ReadAll yields all events with a position greater than after, in order, up to the head at the time of the call
	// or later.
	ReadAll(ctx context.Context, after Position) iter.Seq2[Event, error]

	// Head is the position of the newest event, 0 when there is none.
	Head(ctx context.Context) (Position, error)
}

// VersionConflict says that a stream was not where the writer believed it to be.
type VersionConflict struct {
	StreamID uuid.UUID
	Expected ExpectedVersion
	Actual   int
}

func (e *VersionConflict) Error() string {
	return fmt.Sprintf("stream %s is at version %d, not at the expected %d", e.StreamID, e.Actual, e.Expected)
}

// IsConflict tells whether err is, or wraps, a *VersionConflict: the reason to load again and decide again.
func IsConflict(err error) bool {
	var conflict *VersionConflict
	return errors.As(err, &conflict)
}

// incomplete tells whether an event lacks what makes it provable.
func incomplete(e NewEvent) bool { return e.Data == nil || e.Commitment == Commitment{} }

// ErrClosed answers calls to a store that was closed.
var ErrClosed = errors.New("the event store is closed")

// CheckWrites tells what makes an append malformed: a mistake in the program, never of a user.
func CheckWrites(writes []Write) error {
	if len(writes) == 0 {
		return errors.New("an append needs at least one write")
	}
	seen := make(map[uuid.UUID]bool, len(writes))
	if len(writes[0].Events) == 0 {
		return fmt.Errorf("the first write, to stream %s, has no events", writes[0].StreamID)
	}
	for _, w := range writes {
		switch {
		case len(w.Events) == 0 && w.Expected == Any:
			return fmt.Errorf("the write to stream %s has neither events nor an expected version", w.StreamID)
		case seen[w.StreamID]:
			return fmt.Errorf("stream %s is named twice in one append", w.StreamID)
		case slices.ContainsFunc(w.Events, incomplete):
			return fmt.Errorf("the write to stream %s has an event without a payload or without its commitment", w.StreamID)
		case w.Expected < Any:
			return fmt.Errorf("expected version %d of stream %s is negative", w.Expected, w.StreamID)
		}
		seen[w.StreamID] = true
	}
	return nil
}

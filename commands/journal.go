package commands

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// maxAttempts bounds how often a command decides again because others keep being faster.
const maxAttempts = 20

// journal is the log as the handlers use it: in domain events.
type journal struct {
	store eventstore.Store
	codec *eventstore.Codec
	now   func() time.Time
	newID func() uuid.UUID
}

// history is a stream as a command sees it.
type history[S any] struct {
	state   S
	version int              // how many events it has
	first   eventstore.Event // zero for a stream without events
}

// causes is what events carry that follow from a stream's first event, by whoever acts on it.
func (h history[S]) causes(actor domain.Actor) eventstore.Metadata {
	return eventstore.Metadata{
		AccountID: h.first.AccountID, Actor: actor, CorrelationID: h.first.CorrelationID, CausationID: h.first.ID,
	}
}

// load folds a stream.
func load[S domain.State[S]](ctx context.Context, j *journal, streamID uuid.UUID) (history[S], error) {
	return loadUntil[S](ctx, j, streamID, 0)
}

// loadUntil folds a stream up to and including an event version; 0 means all of it.
func loadUntil[S domain.State[S]](ctx context.Context, j *journal, streamID uuid.UUID, until int) (h history[S], err error) {
	for stored, err := range j.store.ReadStream(ctx, streamID, 0) {
		if err != nil {
			return h, err
		}
		event, err := j.codec.Decode(stored.NewEvent)
		if err != nil {
			return h, fmt.Errorf("load stream %s: %w", streamID, err)
		}
		if h.version == 0 {
			h.first = stored
		}
		h.state, h.version = h.state.Evolve(event), stored.Version
		if h.version == until {
			break
		}
	}
	return h, nil
}

// decide loads a stream, lets the command decide on it and appends the decision, again if somebody else was faster.
// When a decision has events *and* an error, the events are facts about the refusal: they are appended, and the error
// is returned. A decision without events returns position 0.
func decide[S domain.State[S]](
	ctx context.Context, j *journal, meta eventstore.Metadata, streamID uuid.UUID, decide func(S) ([]domain.Event, error),
) (eventstore.Position, error) {
	for range maxAttempts {
		h, err := load[S](ctx, j, streamID)
		if err != nil {
			return 0, err
		}
		events, refusal := decide(h.state)
		if len(events) == 0 {
			return 0, refusal
		}
		write, err := j.write(streamID, h.version, meta, events...)
		if err != nil {
			return 0, err
		}
		position, err := j.store.Append(ctx, write)
		switch {
		case eventstore.IsConflict(err):
			continue
		case err != nil:
			return 0, err
		}
		return position, refusal
	}
	return 0, domain.Errorf(domain.Conflict, "It is being changed by many requests at once. Try again.")
}

// write encodes events for a stream that has version events.
func (j *journal) write(streamID uuid.UUID, version int, meta eventstore.Metadata, events ...domain.Event) (eventstore.Write, error) {
	w := eventstore.Write{StreamID: streamID, Expected: eventstore.Exactly(version)}
	for _, e := range events {
		encoded, err := j.codec.Encode(j.newID(), e, meta)
		if err != nil {
			return w, err
		}
		w.Events = append(w.Events, encoded)
	}
	return w, nil
}

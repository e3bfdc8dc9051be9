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

// load folds a stream. version is the number of events that it has.
func load[S domain.State[S]](ctx context.Context, j *journal, streamID uuid.UUID) (state S, version int, err error) {
	return loadUntil[S](ctx, j, streamID, 0)
}

// loadUntil folds a stream up to and including an event version; 0 means all of it.
func loadUntil[S domain.State[S]](ctx context.Context, j *journal, streamID uuid.UUID, until int) (state S, version int, err error) {
	for stored, err := range j.store.ReadStream(ctx, streamID, 0) {
		if err != nil {
			return state, 0, err
		}
		event, err := j.codec.Decode(stored.NewEvent)
		if err != nil {
			return state, 0, fmt.Errorf("load stream %s: %w", streamID, err)
		}
		state, version = state.Evolve(event), stored.Version
		if version == until {
			break
		}
	}
	return state, version, nil
}

// decide loads a stream, lets the command decide on it and appends the decision, again if somebody else was faster.
// When a decision has events *and* an error, the events are facts about the refusal: they are appended, and the error
// is returned. A decision without events returns position 0.
func decide[S domain.State[S]](
	ctx context.Context, j *journal, meta eventstore.Metadata, streamID uuid.UUID, decide func(S) ([]domain.Event, error),
) (eventstore.Position, error) {
	for range maxAttempts {
		state, version, err := load[S](ctx, j, streamID)
		if err != nil {
			return 0, err
		}
		events, refusal := decide(state)
		if len(events) == 0 {
			return 0, refusal
		}
		write, err := j.write(streamID, version, meta, events...)
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

package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// maxAttempts bounds how often a command decides again because others keep being faster.
const maxAttempts = 20

// journal is the log as the handlers use it: in domain events. It is also where they get everything from that would be
// different in another run of the same command: the time, the ids of what they make, and secrets (see Idempotency).
type journal struct {
	store  eventstore.Store
	codec  *eventstore.Codec
	now    func() time.Time
	newID  func() uuid.UUID
	random io.Reader // never fails

	functions *functionCache
}

// newSecret is 256 random bits.
func (j *journal) newSecret() (secret [32]byte) {
	_, _ = io.ReadFull(j.random, secret[:])
	return secret
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
	return extend(ctx, j, streamID, history[S]{}, 0)
}

// extend folds what a stream has beyond a known part of it, up to and including an event version; 0 means all of it.
func extend[S domain.State[S]](ctx context.Context, j *journal, streamID uuid.UUID, h history[S], until int) (history[S], error) {
	if until > 0 && h.version == until {
		return h, nil
	}
	for stored, err := range j.store.ReadStream(ctx, streamID, h.version) {
		if err != nil {
			return h, err
		}
		event, err := j.codec.Decode(ctx, stored.NewEvent)
		if err != nil {
			return h, fmt.Errorf("load stream %s: %w", streamID, err)
		}
		if h.version == 0 {
			h.first = stored
			h.first.Data = nil // it may be large, and the fold has it
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
	return decideOn(ctx, j, meta, streamID, load[S], decide)
}

// loader folds a stream up to its end.
type loader[S any] func(ctx context.Context, j *journal, streamID uuid.UUID) (history[S], error)

// decideOn is decide for a stream that is loaded in another way.
func decideOn[S domain.State[S]](
	ctx context.Context, j *journal, meta eventstore.Metadata, streamID uuid.UUID, load loader[S], decide func(S) ([]domain.Event, error),
) (eventstore.Position, error) {
	for range maxAttempts {
		h, err := load(ctx, j, streamID)
		if err != nil {
			return 0, err
		}
		events, refusal := decide(h.state)
		if len(events) == 0 {
			return 0, refusal
		}
		write, err := j.write(ctx, streamID, eventstore.Exactly(h.version), meta, events...)
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
	return 0, errTooBusy
}

var errTooBusy = domain.Errorf(domain.Conflict, "It is being changed by many requests at once. Try again.")

// write encodes events for a stream. The ids of events are no part of any answer, so they are the run's own.
func (j *journal) write(
	ctx context.Context, streamID uuid.UUID, expected eventstore.ExpectedVersion, meta eventstore.Metadata, events ...domain.Event,
) (eventstore.Write, error) {
	w := eventstore.Write{StreamID: streamID, Expected: expected}
	for _, e := range events {
		encoded, err := encode(ctx, j.codec, newID(), e, meta)
		if err != nil {
			return w, err
		}
		w.Events = append(w.Events, encoded)
	}
	return w, nil
}

// encode answers domain.ErrAccountErased when there is nobody left to record anything for.
func encode(ctx context.Context, codec *eventstore.Codec, id uuid.UUID, e domain.Event, meta eventstore.Metadata) (eventstore.NewEvent, error) {
	encoded, err := codec.Encode(ctx, id, e, meta)
	if errors.Is(err, eventstore.ErrErased) {
		err = domain.ErrAccountErased
	}
	return encoded, err
}

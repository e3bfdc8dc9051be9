// Package memory keeps a log in memory, with the contract of eventstore.Store and eventstore.Vault. It serves tests of
// what stands above the log.
package memory

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// Store is a log in memory.
type Store struct {
	mu      sync.Mutex
	events  []eventstore.Event
	streams map[uuid.UUID][]eventstore.Position
	secrets map[uuid.UUID]map[string][]byte
	erased  map[uuid.UUID]bool
	answers map[uuid.UUID]eventstore.Answer
}

var (
	_ eventstore.Store   = (*Store)(nil)
	_ eventstore.Vault   = (*Store)(nil)
	_ eventstore.Answers = (*Store)(nil)
)

// New makes an empty log.
func New() *Store {
	return &Store{
		streams: map[uuid.UUID][]eventstore.Position{}, secrets: map[uuid.UUID]map[string][]byte{}, erased: map[uuid.UUID]bool{},
		answers: map[uuid.UUID]eventstore.Answer{},
	}
}

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	if err := eventstore.CheckWrites(writes); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range writes {
		if actual := len(s.streams[w.StreamID]); w.Expected != eventstore.Any && int(w.Expected) != actual {
			return 0, &eventstore.VersionConflict{StreamID: w.StreamID, Expected: w.Expected, Actual: actual}
		}
	}
	now := s.now()
	for _, w := range writes {
		for _, e := range w.Events {
			s.add(w.StreamID, e, now)
		}
	}
	return eventstore.Position(len(s.events)), nil
}

// now never goes backwards.
func (s *Store) now() time.Time {
	now := time.Now().UTC().Truncate(time.Microsecond)
	if n := len(s.events); n > 0 && s.events[n-1].RecordedAt.After(now) {
		return s.events[n-1].RecordedAt
	}
	return now
}

func (s *Store) add(streamID uuid.UUID, e eventstore.NewEvent, now time.Time) {
	position := eventstore.Position(len(s.events) + 1)
	e.Data = slices.Clone(e.Data)
	e.Headers = maps.Clone(e.Headers)
	s.streams[streamID] = append(s.streams[streamID], position)
	s.events = append(s.events, eventstore.Event{
		Position: position, StreamID: streamID, Version: len(s.streams[streamID]), RecordedAt: now, NewEvent: e,
	})
}

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, streamID uuid.UUID, afterVersion int) iter.Seq2[eventstore.Event, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []eventstore.Event
	for _, position := range s.streams[streamID] {
		if e := s.events[position-1]; e.Version > afterVersion {
			events = append(events, e)
		}
	}
	return yieldAll(ctx, events)
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Event, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := min(int(max(after, 0)), len(s.events))
	return yieldAll(ctx, s.events[start:len(s.events):len(s.events)])
}

// Head implements eventstore.Store.
func (s *Store) Head(context.Context) (eventstore.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return eventstore.Position(len(s.events)), nil
}

func yieldAll(ctx context.Context, events []eventstore.Event) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for _, e := range events {
			if err := ctx.Err(); err != nil {
				yield(eventstore.Event{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Put implements eventstore.Vault.
func (s *Store) Put(_ context.Context, owner uuid.UUID, name string, secret []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets[owner] == nil {
		s.secrets[owner] = map[string][]byte{}
	}
	s.secrets[owner][name] = slices.Clone(secret)
	return nil
}

// Get implements eventstore.Vault.
func (s *Store) Get(_ context.Context, owner uuid.UUID, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, ok := s.secrets[owner][name]
	if !ok {
		return nil, eventstore.ErrNoSecret
	}
	return slices.Clone(secret), nil
}

// PutNew implements eventstore.Vault.
func (s *Store) PutNew(_ context.Context, owner uuid.UUID, name string, secret []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.erased[owner] {
		return nil, eventstore.ErrNoSecret
	}
	if s.secrets[owner] == nil {
		s.secrets[owner] = map[string][]byte{}
	}
	if _, ok := s.secrets[owner][name]; !ok {
		s.secrets[owner][name] = slices.Clone(secret)
	}
	return slices.Clone(s.secrets[owner][name]), nil
}

// Erase implements eventstore.Vault.
func (s *Store) Erase(_ context.Context, owner uuid.UUID) error {
	s.dropAnswers(func(a eventstore.Answer) bool { return a.AccountID == owner })
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.secrets, owner)
	s.erased[owner] = true
	return nil
}

// Forget implements eventstore.Vault.
func (s *Store) Forget(_ context.Context, owner uuid.UUID) error {
	s.dropAnswers(func(a eventstore.Answer) bool { return a.AccountID == owner })
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.secrets, owner)
	return nil
}

// Erased implements eventstore.Vault.
func (s *Store) Erased(_ context.Context, owner uuid.UUID) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.erased[owner], nil
}

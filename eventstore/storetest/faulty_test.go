package storetest_test

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

var load = storetest.Load{Clients: 6, Calls: 60, Streams: 3}

func TestACorrectLogIsLinearizable(t *testing.T) {
	t.Parallel()
	log := memory.New()
	verdict := load.RequireLinearizable(t, log, log)
	require.Greater(t, verdict.Accepted, 40)
	require.Greater(t, verdict.Conflicts, 20)
	require.Greater(t, verdict.Reads, 40)
}

// Each of these stores breaks one promise. One that nobody notices would be a hole in the suite.
func TestTheSuiteNoticesEveryFault(t *testing.T) {
	t.Parallel()
	const linearizable = "linearizable"
	for name, c := range map[string]struct {
		open   func() eventstore.Store
		notice []string
	}{
		"takes every expected version": {
			func() eventstore.Store { return credulous{memory.New()} },
			[]string{"new accepts only a stream without events", "exactly n accepts only a stream with n events", linearizable},
		},
		"acknowledges one position too many": {
			func() eventstore.Store { return miscounting{memory.New()} },
			[]string{"positions count from one over all streams without a gap", linearizable},
		},
		"writes the streams of an append one by one": {
			func() eventstore.Store { return &piecemeal{Store: memory.New()} },
			[]string{"an append to several streams is all or nothing", linearizable},
		},
		"lets another append between the writes of one": {
			func() eventstore.Store { return interleaved{memory.New()} },
			[]string{"concurrent appends are dense and each stands where acknowledged", linearizable},
		},
		"acknowledges before it writes": {
			func() eventstore.Store { return &hasty{Store: memory.New()} },
			[]string{linearizable},
		},
		"reads what it read before": {
			func() eventstore.Store {
				return &forgetful{Store: memory.New(), seen: map[uuid.UUID][]eventstore.Event{}}
			},
			[]string{linearizable},
		},
		"repeats an append whose outcome it does not know": {
			func() eventstore.Store { return repeating{memory.New()} },
			[]string{linearizable},
		},
		"calls its own write a conflict": {
			func() eventstore.Store { return selfish{memory.New()} },
			[]string{linearizable},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := storetest.Broken(c.open)
			log := c.open()
			var violation *storetest.Violation
			if _, err := load.Judge(log, log); errors.As(err, &violation) {
				broken = append(broken, linearizable)
			}
			require.Subset(t, broken, c.notice)
		})
	}
}

// withEvents leaves out the guards, which are no appends of their own.
func withEvents(writes []eventstore.Write) []eventstore.Write {
	return slices.DeleteFunc(slices.Clone(writes), func(w eventstore.Write) bool { return len(w.Events) == 0 })
}

type credulous struct{ eventstore.Store }

func (s credulous) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	if err := eventstore.CheckWrites(writes); err != nil {
		return 0, err
	}
	var believed []eventstore.Write
	for _, w := range withEvents(writes) {
		believed = append(believed, eventstore.Write{StreamID: w.StreamID, Expected: eventstore.Any, Events: w.Events})
	}
	return s.Store.Append(ctx, believed...)
}

type miscounting struct{ eventstore.Store }

func (s miscounting) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	position, err := s.Store.Append(ctx, writes...)
	return position + 1, err
}

type piecemeal struct {
	eventstore.Store
	mu sync.Mutex
}

func (s *piecemeal) Append(ctx context.Context, writes ...eventstore.Write) (last eventstore.Position, err error) {
	if err := eventstore.CheckWrites(writes); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range withEvents(writes) {
		if last, err = s.Store.Append(ctx, w); err != nil {
			return 0, err
		}
	}
	return last, nil
}

type interleaved struct{ eventstore.Store }

func (s interleaved) Append(ctx context.Context, writes ...eventstore.Write) (last eventstore.Position, err error) {
	if err := eventstore.CheckWrites(writes); err != nil {
		return 0, err
	}
	for _, w := range withEvents(writes) {
		if last, err = s.Store.Append(ctx, w); err != nil {
			return 0, err
		}
		time.Sleep(time.Microsecond) // long enough for somebody else
	}
	return last, nil
}

// hasty computes the position and writes a moment later.
type hasty struct {
	eventstore.Store
	mu sync.Mutex
}

func (s *hasty) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	s.mu.Lock()
	events, any := 0, true
	for _, w := range writes {
		events += len(w.Events)
		any = any && w.Expected == eventstore.Any
	}
	if !any || rand.IntN(3) > 0 {
		defer s.mu.Unlock()
		return s.Store.Append(ctx, writes...)
	}
	head, err := s.Head(ctx)
	go func() {
		defer s.mu.Unlock()
		time.Sleep(50 * time.Microsecond)
		_, _ = s.Store.Append(context.Background(), writes...)
	}()
	return head + eventstore.Position(events), err
}

// forgetful answers a stream from a cache that nobody refreshes for a while.
type forgetful struct {
	eventstore.Store
	mu   sync.Mutex
	seen map[uuid.UUID][]eventstore.Event
}

func (s *forgetful) ReadStream(ctx context.Context, id uuid.UUID, after int) iter.Seq2[eventstore.Event, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen[id]) == 0 || rand.IntN(4) == 0 {
		s.seen[id] = nil
		for e := range s.Store.ReadStream(ctx, id, 0) {
			s.seen[id] = append(s.seen[id], e)
		}
	}
	cached := s.seen[id]
	return func(yield func(eventstore.Event, error) bool) {
		for _, e := range cached {
			if e.Version > after && !yield(e, nil) {
				return
			}
		}
	}
}

// repeating does what a writer does that loses its connection and tries again without a look.
type repeating struct{ eventstore.Store }

func (s repeating) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	position, err := s.Store.Append(ctx, writes...)
	if err == nil && writes[0].Expected == eventstore.Any && rand.IntN(10) == 0 {
		return s.Store.Append(ctx, writes...)
	}
	return position, err
}

// selfish tries again as well, and meets its own first attempt.
type selfish struct{ eventstore.Store }

func (s selfish) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	position, err := s.Store.Append(ctx, writes...)
	if err == nil && writes[0].Expected != eventstore.Any && rand.IntN(10) == 0 {
		return s.Store.Append(ctx, writes...)
	}
	return position, err
}

// Package storetest is the suite that every eventstore.Store passes.
package storetest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// promises is what every store promises.
var promises = map[string]func(T, eventstore.Store){
	"positions count from one over all streams without a gap":         positionsAreDense,
	"an event comes back as it was written":                           eventsRoundTrip,
	"new accepts only a stream without events":                        newMeansNew,
	"a write without events only guards":                              guardsOnlyGuard,
	"exactly n accepts only a stream with n events":                   exactlyMeansExactly,
	"any accepts every stream":                                        anyMeansAny,
	"a conflict names the stream and its version":                     conflictsTell,
	"an append to several streams is all or nothing":                  appendsAreAtomic,
	"writes of one append keep their order":                           writesKeepOrder,
	"one of many writers at one version wins":                         oneWriterWins,
	"concurrent appends are dense and each stands where acknowledged": concurrentAppendsAreDense,
	"a conflict fails none of its neighbours":                         conflictsAreAlone,
	"a stream is read after any version":                              streamsAreReadFromAnywhere,
	"the log is read after any position, over many pages":             logIsReadFromAnywhere,
	"a reader may stop early":                                         readersMayStop,
	"time never goes backwards":                                       timeIsMonotonic,
	"a malformed append is refused":                                   malformedAppendsAreRefused,
	"an ended context appends nothing":                                endedContextsAppendNothing,
}

// T is what a promise needs of a test: a *testing.T and a *rapid.T have it.
type T interface {
	require.TestingT
	Helper()
}

// Run checks a store's promises. open returns an empty store, and is called once for each promise.
func Run(t *testing.T, open func(t *testing.T) eventstore.Store) {
	for name, promise := range promises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			promise(t, open(t))
		})
	}
}

// Broken returns the promises that a store does not keep, so that a test can ask whether Run would notice a fault. open
// returns an empty store, and is called once for each promise.
func Broken(open func() eventstore.Store) []string {
	var broken []string
	for name, promise := range promises {
		var try trial
		var done sync.WaitGroup
		done.Go(func() { promise(&try, open()) })
		done.Wait()
		if try.failed.Load() {
			broken = append(broken, name)
		}
	}
	return broken
}

// trial is a T whose failure fails no test.
type trial struct{ failed atomic.Bool }

func (t *trial) Errorf(string, ...any) { t.failed.Store(true) }
func (t *trial) Helper()               {}

// FailNow ends the goroutine, as that of a *testing.T does.
func (t *trial) FailNow() {
	t.failed.Store(true)
	runtime.Goexit()
}

// Event makes an event with this text as its data.
func Event(text string) eventstore.NewEvent {
	return eventstore.NewEvent{
		ID: uuid.New(), Type: "test.happened", SchemaVersion: 1, Data: []byte(text), Commitment: eventstore.Commit([]byte(text)),
		Metadata: eventstore.Metadata{Actor: domain.Actor{Kind: domain.ActorSystem}},
	}
}

// To makes a write of events with these texts.
func To(stream uuid.UUID, expected eventstore.ExpectedVersion, texts ...string) eventstore.Write {
	w := eventstore.Write{StreamID: stream, Expected: expected}
	for _, text := range texts {
		w.Events = append(w.Events, Event(text))
	}
	return w
}

// All reads the whole log.
func All(t T, s eventstore.Store) []eventstore.Event {
	t.Helper()
	var events []eventstore.Event
	for e, err := range s.ReadAll(context.Background(), 0) {
		require.NoError(t, err)
		events = append(events, e)
	}
	return events
}

// RequireSound checks what holds for every log: positions are dense, and so are the versions of each stream; time never
// goes backwards; the head is the last position.
func RequireSound(t T, s eventstore.Store) []eventstore.Event {
	t.Helper()
	events := All(t, s)
	versions := map[uuid.UUID]int{}
	for i, e := range events {
		require.Equal(t, eventstore.Position(i+1), e.Position)
		versions[e.StreamID]++
		require.Equal(t, versions[e.StreamID], e.Version, "version of stream %s at position %d", e.StreamID, e.Position)
		if i > 0 {
			require.False(t, e.RecordedAt.Before(events[i-1].RecordedAt), "time went backwards at position %d", e.Position)
		}
	}
	head, err := s.Head(context.Background())
	require.NoError(t, err)
	require.Equal(t, eventstore.Position(len(events)), head)
	return events
}

func mustAppend(t T, s eventstore.Store, writes ...eventstore.Write) eventstore.Position {
	t.Helper()
	position, err := s.Append(context.Background(), writes...)
	require.NoError(t, err)
	return position
}

func texts(events []eventstore.Event) []string {
	list := make([]string, len(events))
	for i, e := range events {
		list[i] = string(e.Data)
	}
	return list
}

func stream(t T, s eventstore.Store, id uuid.UUID, after int) []eventstore.Event {
	t.Helper()
	var events []eventstore.Event
	for e, err := range s.ReadStream(context.Background(), id, after) {
		require.NoError(t, err)
		events = append(events, e)
	}
	return events
}

func positionsAreDense(t T, s eventstore.Store) {
	head, err := s.Head(context.Background())
	require.NoError(t, err)
	require.Equal(t, eventstore.Position(0), head)
	require.Equal(t, eventstore.Position(1), mustAppend(t, s, To(uuid.New(), eventstore.New, "a")))
	require.Equal(t, eventstore.Position(4), mustAppend(t, s, To(uuid.New(), eventstore.New, "b", "c", "d")))
	require.Equal(t, eventstore.Position(5), mustAppend(t, s, To(uuid.New(), eventstore.Any, "e")))
	require.Equal(t, []string{"a", "b", "c", "d", "e"}, texts(RequireSound(t, s)))
}

func eventsRoundTrip(t T, s eventstore.Store) {
	full := eventstore.NewEvent{
		ID: uuid.New(), Type: "test.happened", SchemaVersion: 7, Data: []byte("\x00\xff{\"a\":\"\\u0000\"}"),
		Commitment: eventstore.Commit([]byte("payload")),
		Metadata: eventstore.Metadata{
			AccountID: uuid.New(), Actor: domain.Actor{Kind: domain.ActorAPIKey, ID: uuid.New(), Prefix: "vr_012345678"},
			CorrelationID: uuid.New(), CausationID: uuid.New(), Headers: map[string]string{"traceparent": "00-ab", "": "é\u0000"},
		},
	}
	bare := Event("")
	id := uuid.New()
	mustAppend(t, s, eventstore.Write{StreamID: id, Expected: eventstore.New, Events: []eventstore.NewEvent{full, bare}})
	for _, events := range [][]eventstore.Event{stream(t, s, id, 0), All(t, s)} {
		require.Len(t, events, 2)
		require.Equal(t, full, events[0].NewEvent)
		require.Equal(t, id, events[0].StreamID)
		require.Empty(t, events[1].Data)
		require.Equal(t, bare.Metadata, events[1].Metadata)
	}
}

func newMeansNew(t T, s eventstore.Store) {
	id := uuid.New()
	mustAppend(t, s, To(id, eventstore.New, "a"))
	_, err := s.Append(context.Background(), To(id, eventstore.New, "b"))
	require.True(t, eventstore.IsConflict(err), "%v", err)
	require.Equal(t, []string{"a"}, texts(RequireSound(t, s)))
}

func guardsOnlyGuard(t T, s eventstore.Store) {
	guarded, unknown, written := uuid.New(), uuid.New(), uuid.New()
	mustAppend(t, s, To(guarded, eventstore.New, "a"))
	mustAppend(t, s, To(written, eventstore.New, "b"), To(guarded, eventstore.Exactly(1)), To(unknown, eventstore.New))
	_, err := s.Append(context.Background(), To(written, eventstore.Exactly(1), "c"), To(guarded, eventstore.New))
	var conflict *eventstore.VersionConflict
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, guarded, conflict.StreamID)
	require.Equal(t, 1, conflict.Actual)
	mustAppend(t, s, To(unknown, eventstore.New, "d"))
	require.Equal(t, []string{"a", "b", "d"}, texts(RequireSound(t, s)))
}

func exactlyMeansExactly(t T, s eventstore.Store) {
	id := uuid.New()
	mustAppend(t, s, To(id, eventstore.Exactly(0), "a", "b"))
	for _, wrong := range []int{0, 1, 3} {
		_, err := s.Append(context.Background(), To(id, eventstore.Exactly(wrong), "no"))
		require.True(t, eventstore.IsConflict(err), "expected version %d: %v", wrong, err)
	}
	mustAppend(t, s, To(id, eventstore.Exactly(2), "c"))
	require.Equal(t, []string{"a", "b", "c"}, texts(RequireSound(t, s)))
}

func anyMeansAny(t T, s eventstore.Store) {
	id := uuid.New()
	mustAppend(t, s, To(id, eventstore.Any, "a"))
	mustAppend(t, s, To(id, eventstore.Any, "b"))
	require.Equal(t, []string{"a", "b"}, texts(RequireSound(t, s)))
}

func conflictsTell(t T, s eventstore.Store) {
	id := uuid.New()
	mustAppend(t, s, To(id, eventstore.New, "a", "b"))
	_, err := s.Append(context.Background(), To(uuid.New(), eventstore.New, "c"), To(id, eventstore.Exactly(1), "d"))
	var conflict *eventstore.VersionConflict
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, eventstore.VersionConflict{StreamID: id, Expected: 1, Actual: 2}, *conflict)
}

func appendsAreAtomic(t T, s eventstore.Store) {
	taken, free := uuid.New(), uuid.New()
	mustAppend(t, s, To(taken, eventstore.New, "a"))
	_, err := s.Append(context.Background(), To(free, eventstore.New, "b"), To(taken, eventstore.New, "c"))
	require.True(t, eventstore.IsConflict(err))
	require.Empty(t, stream(t, s, free, 0))
	mustAppend(t, s, To(free, eventstore.New, "d"), To(taken, eventstore.Exactly(1), "e"))
	require.Equal(t, []string{"a", "d", "e"}, texts(RequireSound(t, s)))
}

func writesKeepOrder(t T, s eventstore.Store) {
	a, b, c := uuid.New(), uuid.New(), uuid.New()
	mustAppend(t, s, To(c, eventstore.New, "1", "2"), To(a, eventstore.Any, "3"), To(b, eventstore.New, "4", "5"))
	require.Equal(t, []string{"1", "2", "3", "4", "5"}, texts(RequireSound(t, s)))
}

func oneWriterWins(t T, s eventstore.Store) {
	id := uuid.New()
	const writers, rounds = 16, 10
	for round := range rounds {
		var won sync.Map
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				_, err := s.Append(context.Background(), To(id, eventstore.Exactly(round), fmt.Sprint(w)))
				if err == nil {
					won.Store(w, true)
				} else if !eventstore.IsConflict(err) {
					t.Errorf("writer %d: %v", w, err)
				}
			})
		}
		wg.Wait()
		winners := 0
		won.Range(func(any, any) bool { winners++; return true })
		require.Equal(t, 1, winners)
	}
	require.Len(t, RequireSound(t, s), rounds)
}

func concurrentAppendsAreDense(t T, s eventstore.Store) {
	const writers, appends = 24, 30
	shared := uuid.New()
	var mu sync.Mutex
	acknowledged := map[eventstore.Position]string{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range appends {
				text := fmt.Sprintf("%d/%d", w, i)
				position, err := s.Append(context.Background(), To(uuid.New(), eventstore.New, "first"), To(shared, eventstore.Any, text))
				if err != nil {
					t.Errorf("append %s: %v", text, err)
					return
				}
				mu.Lock()
				acknowledged[position] = text
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	events := RequireSound(t, s)
	require.Len(t, events, 2*writers*appends)
	require.Len(t, acknowledged, writers*appends)
	for position, text := range acknowledged {
		require.Equal(t, text, string(events[position-1].Data))
		require.Equal(t, "first", string(events[position-2].Data), "an append's events stand together")
	}
}

func conflictsAreAlone(t T, s eventstore.Store) {
	taken := uuid.New()
	mustAppend(t, s, To(taken, eventstore.New, "taken"))
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if i%2 == 0 {
				_, err := s.Append(context.Background(), To(taken, eventstore.New, "never"))
				if !eventstore.IsConflict(err) {
					t.Errorf("want a conflict, got %v", err)
				}
				return
			}
			if _, err := s.Append(context.Background(), To(uuid.New(), eventstore.New, "good")); err != nil {
				t.Errorf("a neighbour of a conflict failed: %v", err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, "taken"+strings.Repeat("good", 50), strings.Join(texts(RequireSound(t, s)), ""))
}

func streamsAreReadFromAnywhere(t T, s eventstore.Store) {
	id := uuid.New()
	require.Empty(t, stream(t, s, id, 0))
	mustAppend(t, s, To(id, eventstore.New, "a", "b"), To(uuid.New(), eventstore.New, "other"))
	mustAppend(t, s, To(id, eventstore.Exactly(2), "c"))
	require.Equal(t, []string{"a", "b", "c"}, texts(stream(t, s, id, 0)))
	require.Equal(t, []string{"c"}, texts(stream(t, s, id, 2)))
	require.Empty(t, stream(t, s, id, 3))
}

func logIsReadFromAnywhere(t T, s eventstore.Store) {
	const n = 2500
	id := uuid.New()
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprint(i)
	}
	mustAppend(t, s, To(id, eventstore.New, lines...))
	require.Equal(t, lines, texts(RequireSound(t, s)))
	require.Equal(t, lines, texts(stream(t, s, id, 0)))
	var rest []eventstore.Event
	for e, err := range s.ReadAll(context.Background(), n-2) {
		require.NoError(t, err)
		rest = append(rest, e)
	}
	require.Equal(t, lines[n-2:], texts(rest))
}

func readersMayStop(t T, s eventstore.Store) {
	mustAppend(t, s, To(uuid.New(), eventstore.New, "a", "b", "c"))
	var seen []string
	for e, err := range s.ReadAll(context.Background(), 0) {
		require.NoError(t, err)
		seen = append(seen, string(e.Data))
		if len(seen) == 2 {
			break
		}
	}
	require.Equal(t, []string{"a", "b"}, seen)
}

func timeIsMonotonic(t T, s eventstore.Store) {
	for range 50 {
		mustAppend(t, s, To(uuid.New(), eventstore.New, "tick"))
	}
	events := RequireSound(t, s)
	require.False(t, events[0].RecordedAt.IsZero())
	require.Equal(t, "UTC", events[0].RecordedAt.Location().String())
}

func malformedAppendsAreRefused(t T, s eventstore.Store) {
	id := uuid.New()
	for name, writes := range map[string][]eventstore.Write{
		"no write":         nil,
		"no event":         {To(id, eventstore.New)},
		"a guard first":    {To(id, eventstore.New), To(uuid.New(), eventstore.New, "a")},
		"a guard of any":   {To(uuid.New(), eventstore.New, "a"), To(id, eventstore.Any)},
		"a stream twice":   {To(id, eventstore.New, "a"), To(id, eventstore.Any, "b")},
		"negative version": {To(id, eventstore.ExpectedVersion(-2), "a")},
	} {
		_, err := s.Append(context.Background(), writes...)
		require.Error(t, err, name)
		require.False(t, eventstore.IsConflict(err), name)
	}
	require.Empty(t, RequireSound(t, s))
}

func endedContextsAppendNothing(t T, s eventstore.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Append(ctx, To(uuid.New(), eventstore.New, "a"))
	require.ErrorIs(t, err, context.Canceled)
	mustAppend(t, s, To(uuid.New(), eventstore.New, "b"))
	require.Equal(t, []string{"b"}, texts(RequireSound(t, s)))
}

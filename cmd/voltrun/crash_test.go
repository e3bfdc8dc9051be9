package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/privatepg"
	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

const (
	crashes  = 20
	inFlight = 200
)

// printing prints before and after a moment, so that crashes fall between the parts of its story.
const printing = `exports.handler = async (event) => {
	console.log("begin", event.n);
	await new Promise((resolve) => setTimeout(resolve, event.n % 40));
	console.log("end", event.n);
	return event.n;
};`

func TestNothingAcceptedIsLostWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	requireNothingLost(t, func(s *server) {
		s.kill(t)
		s.start(t)
	})
}

func TestNothingAcceptedIsLostWhenPostgresIsKilled(t *testing.T) {
	t.Parallel()
	requireNothingLost(t, func(s *server) { s.killPostgres(t) })
}

// requireNothingLost keeps executions in flight while something crashes again and again, and judges by the log itself
// when all have ended.
func requireNothingLost(t *testing.T, crash func(*server)) {
	t.Helper()
	s := newServer(t, "VOLTRUN_SLOTS=4")
	s.start(t)
	load := newLoad(t, s)
	for i := range crashes {
		load.fill(t)
		load.late.Go(load.fillOnce) // some requests are on their way when it happens
		time.Sleep(momentOf(i))
		crash(s)
	}
	load.awaitEnds(t)
	require.NoError(t, s.stop(t))
	store, codec := openLog(t, s.dataDir)
	load.requireRecorded(t, store, codec)
}

// momentOf spreads the crashes over half a second of work, each at another point of what goes on.
func momentOf(i int) time.Duration {
	return time.Duration(i)*500*time.Millisecond/crashes + rand.N(25*time.Millisecond)
}

// load keeps executions in flight and remembers which were accepted.
type load struct {
	client   client
	function uuid.UUID
	late     sync.WaitGroup // requests that a crash may hit

	mu       sync.Mutex
	accepted []uuid.UUID
	next     int
}

func newLoad(t *testing.T, s *server) *load {
	c := s.register(t)
	return &load{client: c, function: c.createFunction(t, "nodejs", printing)}
}

// fill requests executions until inFlight of the accepted ones have not ended.
func (l *load) fill(t *testing.T) {
	t.Helper()
	missing := inFlight - l.pending(t)
	var wg sync.WaitGroup
	requests := make(chan struct{}, max(0, missing))
	for range missing {
		requests <- struct{}{}
	}
	close(requests)
	for range 8 {
		wg.Go(func() {
			for range requests {
				if err := l.request(); err != nil {
					t.Errorf("a healthy server did not accept an execution: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// fillOnce requests some executions, come what may.
func (l *load) fillOnce() {
	for range 10 {
		_ = l.request() // the crash may hit it: only what was accepted counts
	}
}

func (l *load) request() error {
	l.mu.Lock()
	l.next++
	n := l.next
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	id, err := l.client.execute(ctx, l.function, map[string]int{"n": n})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted = append(l.accepted, id)
	return nil
}

func (l *load) pending(t *testing.T) int {
	t.Helper()
	var pending, running []execution
	l.client.must(t, 200, "GET", "/api/executions?limit=200&status=pending", nil, &pending)
	l.client.must(t, 200, "GET", "/api/executions?limit=200&status=running", nil, &running)
	return len(pending) + len(running)
}

// awaitEnds waits until nothing is in flight.
func (l *load) awaitEnds(t *testing.T) {
	t.Helper()
	l.late.Wait()
	deadline := time.Now().Add(3 * time.Minute)
	for l.pending(t) > 0 {
		require.True(t, time.Now().Before(deadline), "%d executions do not end", l.pending(t))
		time.Sleep(50 * time.Millisecond)
	}
}

// requireRecorded checks the log for holes and for the story of every execution, and the read models against the log.
func (l *load) requireRecorded(t *testing.T, store *postgres.Store, codec *eventstore.Codec) {
	t.Helper()
	stories := tellStories(t, codec, storetest.RequireSound(t, store))
	outcomes := map[string]int{}
	for id, story := range stories {
		outcomes[requireOneEnd(t, id, story)]++
	}
	for _, id := range l.accepted {
		require.Contains(t, stories, id, "an accepted execution is not in the log")
	}
	t.Logf("%d accepted, %d in the log: %v", len(l.accepted), len(stories), outcomes)
	require.Positive(t, outcomes["execution.completed"])
	projectionstest.RequireEqualToRebuilt(t, store, codec)
}

// openLog opens the log of a data folder whose server is stopped, with the keys of its accounts.
func openLog(t *testing.T, dataDir string) (*postgres.Store, *eventstore.Codec) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	database, err := privatepg.Start(context.Background(), privatepg.Config{DataDir: dataDir, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = database.Stop(context.Background()) })
	store, err := postgres.Open(context.Background(), database.DSN(), uuid.New(), quiet)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	keys, err := newKeyRing(t.Context(), config{DataDir: dataDir}, store)
	require.NoError(t, err)
	return store, eventstore.DomainCodec(keys)
}

// tellStories collects the facts of each execution, in order.
func tellStories(t *testing.T, codec *eventstore.Codec, events []eventstore.Event) map[uuid.UUID][]domain.Event {
	t.Helper()
	stories := map[uuid.UUID][]domain.Event{}
	for _, e := range events {
		fact, err := codec.Decode(t.Context(), e.NewEvent)
		require.NoError(t, err)
		if _, requested := fact.(domain.ExecutionRequested); requested || stories[e.StreamID] != nil {
			stories[e.StreamID] = append(stories[e.StreamID], fact)
		}
	}
	return stories
}

// requireOneEnd checks that an execution was requested once, started at most once, and ended once with nothing after
// it; it returns how.
func requireOneEnd(t *testing.T, id uuid.UUID, story []domain.Event) string {
	t.Helper()
	counts := map[string]int{}
	for _, fact := range story {
		counts[fact.EventType()]++
	}
	end := story[len(story)-1].EventType()
	require.Contains(t, []string{"execution.completed", "execution.failed"}, end, "%s: %v", id, counts)
	require.Equal(t, 1, counts["execution.completed"]+counts["execution.failed"], "%s: %v", id, counts)
	require.Equal(t, 1, counts["execution.requested"], "%s: %v", id, counts)
	require.Equal(t, 1, counts["execution.started"], "%s: %v", id, counts)
	require.LessOrEqual(t, counts["execution.log_line"], 2, "%s: %v", id, counts)
	if failed, ok := story[len(story)-1].(domain.ExecutionFailed); ok {
		require.Equal(t, domain.ErrorWorkerLost, failed.ErrorType, "%s: %s", id, failed.Error)
		return fmt.Sprintf("%s (%s)", end, failed.ErrorType)
	}
	require.Equal(t, 2, counts["execution.log_line"], "%s: a completed run has its whole log", id)
	return end
}

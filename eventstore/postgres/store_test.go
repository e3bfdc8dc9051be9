package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

func openStore(t testing.TB, dsn string) *postgres.Store {
	t.Helper()
	_, err := postgres.Migrate(context.Background(), dsn)
	require.NoError(t, err)
	s, err := postgres.Open(context.Background(), dsn, uuid.New(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestPostgresStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) eventstore.Store { return openStore(t, pgtest.Database(t)) })
}

func TestHistoryCannotBeChanged(t *testing.T) {
	dsn := pgtest.Database(t)
	s := openStore(t, dsn)
	_, err := s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "a", "b"))
	require.NoError(t, err)
	conn := connect(t, dsn)
	for _, statement := range []string{
		"update events set data = 'x'", "update events set position = position + 10", "delete from events", "delete from events where position = 2",
		"truncate events", "truncate events cascade",
	} {
		_, err := conn.Exec(context.Background(), statement)
		require.ErrorContains(t, err, "append-only", statement)
	}
	require.Len(t, storetest.RequireSound(t, s), 2)
}

func TestMigrationsMayRunManyTimesAtOnce(t *testing.T) {
	dsn := pgtest.Database(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := postgres.Migrate(context.Background(), dsn); err != nil {
				t.Errorf("migrate: %v", err)
			}
		})
	}
	wg.Wait()
	applied, err := postgres.Migrate(context.Background(), dsn)
	require.NoError(t, err)
	require.Zero(t, applied)
}

func TestTimeNeverGoesBackWhateverTheClockDoes(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	s := openStore(t, dsn)
	ctx := context.Background()
	var ahead time.Time
	err := connect(t, dsn).QueryRow(ctx, "update head set recorded_at = now() + interval '1 hour' returning recorded_at").Scan(&ahead)
	require.NoError(t, err)
	_, err = s.Append(ctx, storetest.To(uuid.New(), eventstore.New, "a", "b"))
	require.NoError(t, err)
	for _, e := range storetest.RequireSound(t, s) {
		require.False(t, e.RecordedAt.Before(ahead), "%s is before %s", e.RecordedAt, ahead)
	}
}

// A reader that polls for positions greater than its last one must never meet a position later that it has passed.
func TestSeveralProcessesShareOneOrderAndReadersMissNothing(t *testing.T) {
	dsn := pgtest.Database(t)
	stores := []*postgres.Store{openStore(t, dsn), openStore(t, dsn), openStore(t, dsn)}
	const writers, appends = 8, 60
	done := make(chan struct{})
	var seen []eventstore.Position
	var reader sync.WaitGroup
	reader.Go(func() {
		var last eventstore.Position
		for finished := false; !finished; {
			select {
			case <-done:
				finished = true // one more look, at the final state
			default:
			}
			for e, err := range stores[0].ReadAll(context.Background(), last) {
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				last = e.Position
				seen = append(seen, e.Position)
			}
		}
	})
	shared := uuid.New()
	var wg sync.WaitGroup
	for i, s := range stores {
		for w := range writers {
			wg.Go(func() {
				for n := range appends {
					_, err := s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, fmt.Sprint(i, w, n)),
						storetest.To(shared, eventstore.Any, "shared"))
					if err != nil {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	close(done)
	reader.Wait()
	events := storetest.RequireSound(t, stores[0])
	require.Len(t, events, len(stores)*writers*appends*2)
	require.Len(t, seen, len(events))
}

// The writer's connection is cut again and again while appends are on their way. Whatever was acknowledged stands in
// the log once, and nothing that was refused does.
func TestABrokenConnectionNeitherLosesNorDoublesAnAppend(t *testing.T) {
	dsn := pgtest.Database(t)
	s := openStore(t, dsn)
	ctx := context.Background()
	cutting, stopCutting := context.WithCancel(ctx)
	var cutter sync.WaitGroup
	cutter.Go(func() {
		conn := connect(t, dsn)
		for cutting.Err() == nil {
			_, err := conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity
				where datname = current_database() and application_name like 'voltrun writer %'`)
			if err != nil {
				t.Errorf("cut: %v", err)
			}
			select {
			case <-cutting.Done():
			case <-time.After(30 * time.Millisecond): // long enough to get something done in between
			}
		}
	})
	const writers, appends = 16, 60
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			mine := uuid.New()
			for n := range appends {
				if _, err := s.Append(ctx, storetest.To(mine, eventstore.Exactly(n), fmt.Sprintf("%d/%d", w, n))); err != nil {
					t.Errorf("append %d of writer %d: %v", n, w, err)
				}
			}
		})
	}
	wg.Wait()
	stopCutting()
	cutter.Wait()
	events := storetest.RequireSound(t, s)
	require.Len(t, events, writers*appends)
	once := map[string]bool{}
	for _, e := range events {
		require.False(t, once[string(e.Data)], "%s stands twice", e.Data)
		once[string(e.Data)] = true
	}
}

// A row that Postgres refuses must not take the appends down that share its batch.
func TestARefusedAppendFailsNoneOfItsNeighbours(t *testing.T) {
	s := openStore(t, pgtest.Database(t))
	bad := storetest.Event("bad")
	bad.Type = "not\x00text" // Postgres cannot store NUL in text
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			w := storetest.To(uuid.New(), eventstore.New, "good")
			if i%3 == 0 {
				w.Events[0] = bad
			}
			_, err := s.Append(context.Background(), w)
			if (i%3 == 0) != (err != nil) {
				t.Errorf("append %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	require.Len(t, storetest.RequireSound(t, s), 40)
}

func TestACommitWakesSubscribersOfEveryProcess(t *testing.T) {
	dsn := pgtest.Database(t)
	here, there := openStore(t, dsn), openStore(t, dsn)
	wokenHere, cancelHere := here.Subscribe()
	defer cancelHere()
	wokenThere, cancelThere := there.Subscribe()
	defer cancelThere()
	for range 3 {
		_, err := here.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "a"))
		require.NoError(t, err)
		for _, woken := range []<-chan struct{}{wokenHere, wokenThere} {
			select {
			case <-woken:
			case <-time.After(4 * time.Second): // less than the fallback
				t.Fatal("nobody was woken")
			}
		}
	}
}

func TestALeaseLivesAsLongAsItsProcessIsConnected(t *testing.T) {
	dsn := pgtest.Database(t)
	ctx := context.Background()
	watcher := openStore(t, dsn)
	worker := uuid.New()
	alive := func() bool {
		ok, err := watcher.Alive(ctx, worker)
		require.NoError(t, err)
		return ok
	}
	require.False(t, alive())
	s, err := postgres.Open(ctx, dsn, worker, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.True(t, alive())

	_, err = connect(t, dsn).Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and application_name = 'voltrun session'`)
	require.NoError(t, err)
	require.Eventually(t, alive, 5*time.Second, 5*time.Millisecond, "a session that broke takes its lease again")

	s.Close()
	require.Eventually(t, func() bool { return !alive() }, 5*time.Second, 5*time.Millisecond)
}

func TestAClosedStoreRefusesAndFinishesWhatItAccepted(t *testing.T) {
	dsn := pgtest.Database(t)
	s := openStore(t, dsn)
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted := 0
	for range 50 {
		wg.Go(func() {
			_, err := s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "a"))
			if err == nil {
				mu.Lock()
				accepted++
				mu.Unlock()
			} else if !isClosed(err) {
				t.Errorf("append: %v", err)
			}
		})
	}
	s.Close()
	s.Close()
	wg.Wait()
	_, err := s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "late"))
	require.ErrorIs(t, err, eventstore.ErrClosed)
	require.Len(t, storetest.RequireSound(t, openStore(t, dsn)), accepted)
}

func isClosed(err error) bool { return errors.Is(err, eventstore.ErrClosed) }

func TestPostgresAnswersKeepTheContract(t *testing.T) {
	storetest.RunAnswers(t, openStore(t, pgtest.Database(t)))
}

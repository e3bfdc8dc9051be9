package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
)

// partitioned is a log with five full partitions of a thousand events, and its events.
func partitioned(t *testing.T) (*Store, []eventstore.Event) {
	t.Helper()
	s := openSmall(t, pgtest.Database(t), 1000)
	for range 52 {
		_, err := s.Append(t.Context(), write(uuid.New(), 100))
		require.NoError(t, err)
	}
	return s, readAll(t, s)
}

func readAll(t *testing.T, s *Store) []eventstore.Event {
	t.Helper()
	var events []eventstore.Event
	for e, err := range s.ReadAll(t.Context(), 0) {
		require.NoError(t, err)
		events = append(events, e)
	}
	return events
}

// keptOf is every third payload of a partition.
func keptOf(events []eventstore.Event, p Partition) iter.Seq2[Kept, error] {
	return func(yield func(Kept, error) bool) {
		for _, e := range events {
			if e.Position >= p.From && e.Position <= p.To && e.Position%3 == 0 && !yield(Kept{e.Position, sha256.Sum256(e.Data)}, nil) {
				return
			}
		}
	}
}

func (s *Store) strip(ctx context.Context, p Partition, kept iter.Seq2[Kept, error]) error {
	return s.StripPayloads(ctx, p, kept, slog.New(slog.DiscardHandler), func(pgx.Tx) error { return nil })
}

var second = Partition{From: 1001, To: 2000}

func TestAStrippedPartitionHasEverythingButTheKeptPayloads(t *testing.T) {
	t.Parallel()
	s, before := partitioned(t)
	require.NoError(t, s.strip(t.Context(), second, keptOf(before, second)))
	for i, e := range readAll(t, s) {
		want := before[i]
		if want.Position >= second.From && want.Position <= second.To && want.Position%3 == 0 {
			want.Data = nil
		}
		require.Equal(t, want, e)
	}
	require.NoError(t, s.strip(t.Context(), second, keptOf(nil, second)), "a second time")

	for _, statement := range []string{"update events set data = null", "delete from events_1001", "truncate events_1001"} {
		_, err := s.pool.Exec(t.Context(), statement)
		require.ErrorContains(t, err, "append-only", statement)
	}
	require.Equal(t, s.described(t, "events_1"), s.described(t, "events_1001"))
	_, err := s.Append(t.Context(), write(uuid.New(), 3000))
	require.NoError(t, err, "the writer goes on")
}

// described is what a partition's table is made of, but for its own name.
func (s *Store) described(t *testing.T, table string) (parts []string) {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `
		select pg_get_indexdef(indexrelid) || indisprimary from pg_index where indrelid = $1::text::regclass
		union all select pg_get_triggerdef(oid) from pg_trigger where tgrelid = $1::text::regclass
		union all select conname || pg_get_constraintdef(oid) from pg_constraint where conrelid = $1::text::regclass
		union all select attname || atttypid || attnotnull || atthasdef from pg_attribute where attrelid = $1::text::regclass and attnum > 0
		union all select relnamespace::regnamespace || relkind::text || coalesce(reloptions::text, '') from pg_class where oid = $1::text::regclass
		order by 1`, table)
	require.NoError(t, err)
	descriptions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, d := range descriptions {
		parts = append(parts, strings.ReplaceAll(d, table, "events_N"))
	}
	return parts
}

// A transaction with an old snapshot must not find the log with a hole.
func TestASnapshotFromBeforeTheSwapSeesEveryEvent(t *testing.T) {
	t.Parallel()
	s, before := partitioned(t)
	old, err := s.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer old.Rollback(t.Context())
	_, err = old.Exec(t.Context(), "select position from head")
	require.NoError(t, err)
	require.NoError(t, s.strip(t.Context(), second, keptOf(before, second)))
	var events int
	require.NoError(t, old.QueryRow(t.Context(), "select count(*) from events").Scan(&events))
	require.Equal(t, len(before), events)
}

func TestAPayloadThatIsNotKeptAsItStandsDoesNotLeaveTheLog(t *testing.T) {
	t.Parallel()
	s, before := partitioned(t)
	broken := func(change func(*Kept)) iter.Seq2[Kept, error] {
		return func(yield func(Kept, error) bool) {
			for k := range keptOf(before, second) {
				if k.Position == 1500 {
					change(&k)
				}
				if !yield(k, nil) {
					return
				}
			}
		}
	}
	for name, change := range map[string]func(*Kept){
		"other bytes":         func(k *Kept) { k.SHA256[0]++ },
		"in another place":    func(k *Kept) { k.Position++ },
		"from before the log": func(k *Kept) { k.Position = -1 },
	} {
		require.ErrorContains(t, s.strip(t.Context(), second, broken(change)), "are not those that stand in the log", name)
	}
	failing := func(yield func(Kept, error) bool) { yield(Kept{}, errors.New("the disk is gone")) }
	require.ErrorContains(t, s.strip(t.Context(), second, failing), "the disk is gone")
	err := s.StripPayloads(t.Context(), second, keptOf(before, second), slog.New(slog.DiscardHandler), func(pgx.Tx) error {
		return errors.New("cannot be noted")
	})
	require.ErrorContains(t, err, "cannot be noted")
	require.Equal(t, before, readAll(t, s))
}

// Whoever reads for long, such as a dump, keeps the partition from being swapped, but nobody from appending and reading.
func TestASwapThatHasToWaitKeepsNobodyElseWaiting(t *testing.T) {
	t.Parallel()
	s, before := partitioned(t)
	dump, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = dump.Exec(t.Context(), "lock table events in access share mode")
	require.NoError(t, err)
	stripped := make(chan error, 1)
	go func() { stripped <- s.strip(context.Background(), second, keptOf(before, second)) }()
	require.Eventually(t, func() bool { // it has begun to try
		var waiting int
		err := s.pool.QueryRow(t.Context(), "select count(*) from pg_locks l where not granted and relation = 'events'::regclass").Scan(&waiting)
		return err == nil && waiting > 0
	}, 20*time.Second, time.Millisecond)
	var slowest time.Duration
	for range 50 {
		began := time.Now()
		_, err := s.Append(t.Context(), write(uuid.New(), 1))
		require.NoError(t, err)
		for _, err := range s.ReadStream(t.Context(), before[0].StreamID, 0) {
			require.NoError(t, err)
		}
		slowest = max(slowest, time.Since(began))
		time.Sleep(5 * time.Millisecond) // so that several tries of the swap fall into the loop
	}
	require.Less(t, slowest, 2*time.Second)
	select {
	case err := <-stripped:
		t.Fatalf("the swap did not wait: %v", err)
	default:
	}
	require.NoError(t, dump.Rollback(t.Context()))
	require.NoError(t, <-stripped)
}

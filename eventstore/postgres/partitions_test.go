package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
)

// write makes an append of so many events to one stream.
func write(stream uuid.UUID, events int) eventstore.Write {
	w := eventstore.Write{StreamID: stream, Expected: eventstore.Any}
	for range events {
		e := eventstore.NewEvent{
			ID: uuid.New(), Type: "test.happened", SchemaVersion: 1,
			Metadata: eventstore.Metadata{Actor: domain.Actor{Kind: domain.ActorSystem}},
		}
		e.Data, e.Commitment = eventstore.Plain([]byte("{}"))
		w.Events = append(w.Events, e)
	}
	return w
}

func openSmall(t *testing.T, dsn string, partition int64) *Store {
	t.Helper()
	_, err := Migrate(context.Background(), dsn)
	require.NoError(t, err)
	s, err := Open(context.Background(), dsn, uuid.New(), slog.New(slog.DiscardHandler), PartitionSize(partition))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestPartitionsAreMadeBeforeTheHeadReachesThem(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), 5000)
	stream := uuid.New()
	for range 40 {
		_, err := s.Append(t.Context(), write(stream, 700))
		require.NoError(t, err)
	}
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 28_000, head)
	var upto eventstore.Position
	require.NoError(t, s.pool.QueryRow(t.Context(), "select max(upto_position) from partitions").Scan(&upto))
	require.Greater(t, upto, head+leastAhead)

	next := 1
	for event, err := range s.ReadStream(t.Context(), stream, 0) {
		require.NoError(t, err)
		require.Equal(t, next, event.Version, "a stream is read over its partitions in order")
		next++
	}
	require.Equal(t, 28_001, next)
	closed, err := s.ClosedPartitions(t.Context())
	require.NoError(t, err)
	require.Len(t, closed, 5)
	require.EqualValues(t, 5001, closed[1].From)
	require.EqualValues(t, 10_000, closed[1].To)
	require.False(t, closed[1].Newest.Before(closed[0].Newest))
}

func TestALogWithoutEventsGetsTheSizeThatIsAskedForFromItsFirstPartitionOn(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	size := func(s *Store) (upto int64) {
		require.NoError(t, s.pool.QueryRow(t.Context(), "select upto_position from partitions where from_position = 1").Scan(&upto))
		return upto - 1
	}
	require.EqualValues(t, 7000, size(openSmall(t, dsn, 7000)))
	s := openSmall(t, dsn, 5000)
	require.EqualValues(t, 5000, size(s))
	_, err := s.Append(t.Context(), write(uuid.New(), 1))
	require.NoError(t, err)
	require.EqualValues(t, 5000, size(openSmall(t, dsn, 9000)), "a partition with events stays")
}

// Somebody holds a lock on the log that keeps partitions from being made, such as ANALYZE does for minutes.
func TestAppendsDoNotWaitForAPartitionThatIsNotUrgent(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), 100_000)
	_, err := s.Append(t.Context(), write(uuid.New(), 1))
	require.NoError(t, err)
	locked, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = locked.Exec(t.Context(), "lock table only events in share update exclusive mode")
	require.NoError(t, err)
	for range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := s.Append(ctx, write(uuid.New(), 1000))
		cancel()
		require.NoError(t, err)
	}
	made := func() (n int) {
		require.NoError(t, s.pool.QueryRow(t.Context(), "select count(*) from partitions").Scan(&n))
		return n
	}
	require.Equal(t, 1, made())
	require.NoError(t, locked.Rollback(t.Context()))
	require.Eventually(t, func() bool {
		_, err := s.Append(t.Context(), write(uuid.New(), 1))
		return err == nil && made() == 2
	}, 2*partitionRetry, 50*time.Millisecond)
}

func TestAStreamIsNotLookedForInPartitionsFromBeforeIt(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), 5000)
	for range 14 {
		_, err := s.Append(t.Context(), write(uuid.New(), 1000))
		require.NoError(t, err)
	}
	stream := uuid.New()
	_, err := s.Append(t.Context(), write(stream, 3))
	require.NoError(t, err)
	rows, err := s.pool.Query(t.Context(), "explain (analyze, costs off, timing off, summary off) "+streamQuery, readPage, inlineBytes, stream, 0)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	var looked []string
	for _, line := range lines {
		if strings.Contains(line, "_stream on events_") && !strings.Contains(line, "never executed") {
			looked = append(looked, line)
		}
	}
	require.NotEmpty(t, looked)
	for _, line := range looked {
		require.NotContains(t, line, "events_1 ")
		require.NotContains(t, line, "events_5001 ")
	}
}

// Two processes that fill the log at once must not find it without a partition, nor make one twice.
func TestProcessesMakePartitionsForEachOther(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	a, b := openSmall(t, dsn, 2000), openSmall(t, dsn, 2000)
	failed := make(chan error, 8)
	for i := range cap(failed) {
		s := []*Store{a, b}[i%2]
		go func() {
			var err error
			for range 10 {
				if _, err = s.Append(context.Background(), write(uuid.New(), 300)); err != nil {
					break
				}
			}
			failed <- err
		}()
	}
	for range cap(failed) {
		require.NoError(t, <-failed)
	}
	var overlapping int
	require.NoError(t, a.pool.QueryRow(t.Context(), `select count(*) from partitions a join partitions b
		on a.from_position < b.from_position and b.from_position < a.upto_position`).Scan(&overlapping))
	require.Zero(t, overlapping)
}

func TestHistoryCannotBeChangedInAPartitionEither(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), DefaultPartitionSize)
	_, err := s.Append(t.Context(), write(uuid.New(), 2))
	require.NoError(t, err)
	for _, statement := range []string{"update events_1 set data = null", "delete from events_1", "truncate events_1"} {
		_, err := s.pool.Exec(t.Context(), statement)
		require.ErrorContains(t, err, "append-only", statement)
	}
}

func TestAMomentIsFoundInTheLog(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), DefaultPartitionSize)
	for range 9 {
		_, err := s.Append(t.Context(), write(uuid.New(), 3))
		require.NoError(t, err)
	}
	for event, err := range s.ReadAll(t.Context(), 0) {
		require.NoError(t, err)
		var at, before eventstore.Position
		err := s.pool.QueryRow(t.Context(), "select position_at($1), position_at($1::timestamptz - interval '1 microsecond')",
			event.RecordedAt).Scan(&at, &before)
		require.NoError(t, err)
		require.GreaterOrEqual(t, at, event.Position)
		require.Less(t, before, event.Position)
	}
	var none, all eventstore.Position
	require.NoError(t, s.pool.QueryRow(t.Context(), "select position_at('2000-01-01'), position_at('infinity')").Scan(&none, &all))
	require.Zero(t, none)
	require.EqualValues(t, 27, all)
}

// The log of a VoltRun that knew neither partitions nor commitments.
func TestALogOfTheFirstFormIsReadOn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dsn := pgtest.Database(t)
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	db := stdlib.OpenDB(*config)
	defer db.Close()
	migrator, err := newMigrator(db)
	require.NoError(t, err)
	_, err = migrator.UpTo(ctx, 1)
	require.NoError(t, err)
	stream := uuid.New()
	_, err = db.ExecContext(ctx, fmt.Sprintf(`
		insert into events (position, stream_id, version, id, type, schema_version, actor_kind, recorded_at, data)
		select n, '%s', n, gen_random_uuid(), 'key.deleted', 1, 'system', now(), '{}' from generate_series(1, 3) n;
		insert into streams values ('%[1]s', 3); update head set position = 3, recorded_at = now()`, stream))
	require.NoError(t, err)

	s := openSmall(t, dsn, DefaultPartitionSize)
	position, err := s.Append(ctx, eventstore.Write{StreamID: stream, Expected: eventstore.Exactly(3), Events: write(stream, 1).Events})
	require.NoError(t, err)
	require.EqualValues(t, 4, position)
	versions := 0
	for event, err := range s.ReadStream(ctx, stream, 0) {
		require.NoError(t, err)
		versions++
		disclosure, plain := eventstore.PlainDisclosure(event.Data)
		require.True(t, plain)
		require.Equal(t, "{}", string(eventstore.Content(disclosure)))
		require.Equal(t, eventstore.Commit(disclosure), event.Commitment)
	}
	require.Equal(t, 4, versions)
}

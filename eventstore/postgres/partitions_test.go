package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

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

// The first partition has the usual size, whatever is asked for later: the test moves the head near its end.
func moveHead(t *testing.T, s *Store, position int64) {
	t.Helper()
	_, err := s.pool.Exec(t.Context(), "update head set position = $1", position)
	require.NoError(t, err)
}

func TestPartitionsAreMadeBeforeTheHeadReachesThem(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), 5000)
	moveHead(t, s, DefaultPartitionSize-3000)
	stream := uuid.New()
	for range 20 {
		_, err := s.Append(t.Context(), write(stream, 700))
		require.NoError(t, err)
	}
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, DefaultPartitionSize-3000+14_000, head)
	var upto eventstore.Position
	require.NoError(t, s.pool.QueryRow(t.Context(), "select max(upto_position) from partitions").Scan(&upto))
	require.Greater(t, upto, head+leastAhead)

	next := 1
	for event, err := range s.ReadStream(t.Context(), stream, 0) {
		require.NoError(t, err)
		require.Equal(t, next, event.Version, "a stream is read over its partitions in order")
		next++
	}
	require.Equal(t, 14_001, next)
}

func TestAStreamIsNotLookedForInPartitionsFromBeforeIt(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	s := openSmall(t, dsn, 5000)
	_, err := s.Append(t.Context(), write(uuid.New(), 3))
	require.NoError(t, err)
	moveHead(t, s, DefaultPartitionSize+14_000)
	s = openSmall(t, dsn, 5000) // makes what the head needs
	stream := uuid.New()
	_, err = s.Append(t.Context(), write(stream, 3))
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
		require.NotContains(t, line, "events_1000001 ")
	}
}

// Two processes that fill the log at once must not find it without a partition, nor make one twice.
func TestProcessesMakePartitionsForEachOther(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	a, b := openSmall(t, dsn, 2000), openSmall(t, dsn, 2000)
	moveHead(t, a, DefaultPartitionSize-1000)
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

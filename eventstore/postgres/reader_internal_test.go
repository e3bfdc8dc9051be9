package postgres

import (
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
)

// sized makes a write with payloads of these sizes, each of which tells its place.
func sized(stream uuid.UUID, sizes ...int) eventstore.Write {
	w := write(stream, len(sizes))
	for i, size := range sizes {
		w.Events[i].Data = []byte(strings.Repeat(fmt.Sprint(i%10), size))
	}
	return w
}

func collectAll(t require.TestingT, events iter.Seq2[eventstore.Event, error]) []eventstore.NewEvent {
	var all []eventstore.NewEvent
	for e, err := range events {
		require.NoError(t, err)
		all = append(all, e.NewEvent)
	}
	return all
}

func TestPayloadsOfAnySizeAreReadInOrder(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), DefaultPartitionSize)
	size := rapid.SampledFrom([]int{0, 1, 300, inlineBytes - 1, inlineBytes, inlineBytes + 1, 100_000})
	rapid.Check(t, func(t *rapid.T) {
		before, err := s.Head(t.Context())
		require.NoError(t, err)
		w := sized(uuid.New(), rapid.SliceOfN(size, 1, 20).Draw(t, "sizes")...)
		_, err = s.Append(t.Context(), w)
		require.NoError(t, err)
		require.Equal(t, w.Events, collectAll(t, s.ReadAll(t.Context(), before)))
		require.Equal(t, w.Events, collectAll(t, s.ReadStream(t.Context(), w.StreamID, 0)))
	})
}

// A thousand inputs of the largest size would take six gigabytes.
func TestAPageOfLargePayloadsHoldsAFewOfThem(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), DefaultPartitionSize)
	const large = readBytes/4 + 1
	w := sized(uuid.New(), large, 10, large, large, large, large, large, 10)
	for _, e := range w.Events {
		_, err := s.Append(t.Context(), eventstore.Write{StreamID: w.StreamID, Expected: eventstore.Any, Events: []eventstore.NewEvent{e}})
		require.NoError(t, err)
	}
	first := s.readPage(t.Context(), nil, allQuery, 0)
	require.NoError(t, first.err)
	require.False(t, first.last)
	require.Len(t, first.events, 5, "none behind the first %d bytes", readBytes)
	require.Equal(t, w.Events, collectAll(t, s.ReadAll(t.Context(), 0)))
}

func TestAnEventWithoutItsPayloadIsReadAllTheSame(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), DefaultPartitionSize)
	_, err := s.Append(t.Context(), sized(uuid.New(), 10, 20, 30))
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "alter table events disable trigger user; alter table events_1 disable trigger user; "+
		"update events set data = null where position = 2")
	require.NoError(t, err)
	events := collectAll(t, s.ReadAll(t.Context(), 0))
	require.Len(t, events, 3)
	require.Nil(t, events[1].Data)
	require.Len(t, events[2].Data, 30)
}

// ParseEvent reads what ScanEvent reads.
func TestARowReadsTheSameInBothWays(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), DefaultPartitionSize)
	w := write(uuid.New(), 2)
	e := &w.Events[0]
	e.AccountID, e.CorrelationID, e.CausationID, e.Actor.ID = uuid.New(), uuid.New(), uuid.New(), uuid.New()
	e.Actor.Prefix, e.Type, e.SchemaVersion, e.Headers = "vr_012345678", "ä type that nobody knows", 32767, map[string]string{"a": "b"}
	_, err := s.Append(t.Context(), w)
	require.NoError(t, err)
	const query = "select " + EventColumns + " from events order by position"
	rows, err := s.pool.Query(t.Context(), query)
	require.NoError(t, err)
	scanned, err := pgx.CollectRows(rows, ScanEvent)
	require.NoError(t, err)
	rows, err = s.pool.Query(t.Context(), query)
	require.NoError(t, err)
	parsed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (eventstore.Event, error) { return ParseEvent(row.RawValues()) })
	require.NoError(t, err)
	require.Equal(t, scanned, parsed)
	require.Equal(t, w.Events[0], parsed[0].NewEvent)
}

func TestARowThatIsNotAnEventsIsAnError(t *testing.T) {
	t.Parallel()
	s := openSmall(t, pgtest.Database(t), DefaultPartitionSize)
	_, err := s.Append(t.Context(), write(uuid.New(), 1))
	require.NoError(t, err)
	for name, columns := range map[string]string{
		"too few": "position, stream_id", "other types": strings.Replace(EventColumns, "position", "'one'", 1),
		"a null in place of a number": strings.Replace(EventColumns, "version", "null::int", 1),
	} {
		rows, err := s.pool.Query(t.Context(), "select "+columns+" from events")
		require.NoError(t, err)
		_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (eventstore.Event, error) { return ParseEvent(row.RawValues()) })
		require.ErrorContains(t, err, "not those of an event", name)
	}
}

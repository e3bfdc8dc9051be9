package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/voltrun/voltrun/eventstore"
)

// EventColumns are the columns of the events table in the order in which ScanEvent reads them.
const EventColumns = `position, stream_id, version, recorded_at, id, type, schema_version, account_id, actor_kind, actor_id,
	actor_prefix, correlation_id, causation_id, commitment, headers, data`

// What one round trip of ReadStream and ReadAll fetches at most: so many events, and no more once they are so large.
const (
	readPage  = 1000
	readBytes = 8 << 20
)

// ScanEvent reads one row of EventColumns. It is a pgx.RowToFunc.
func ScanEvent(row pgx.CollectableRow) (eventstore.Event, error) {
	var e eventstore.Event
	var account, actor, correlation, causation pgtype.UUID
	var stream, id pgtype.UUID
	var prefix pgtype.Text
	var headers, commitment []byte
	err := row.Scan(&e.Position, &stream, &e.Version, &e.RecordedAt, &id, &e.Type, &e.SchemaVersion, &account,
		&e.Actor.Kind, &actor, &prefix, &correlation, &causation, &commitment, &headers, &e.Data)
	if err != nil {
		return e, fmt.Errorf("read an event's row: %w", err)
	}
	if headers != nil {
		if err := json.Unmarshal(headers, &e.Headers); err != nil {
			return e, fmt.Errorf("read the headers of event %d: %w", e.Position, err)
		}
	}
	e.StreamID, e.ID = stream.Bytes, id.Bytes
	e.AccountID, e.Actor.ID, e.CorrelationID, e.CausationID = account.Bytes, actor.Bytes, correlation.Bytes, causation.Bytes
	e.Actor.Prefix = prefix.String
	copy(e.Commitment[:], commitment)
	e.RecordedAt = e.RecordedAt.UTC()
	return e, nil
}

// streamQuery does not look into the partitions from before the stream's first event. That it has no other end is on
// purpose: Postgres takes a range whose ends it does not know for a narrow one, and would read that instead of the
// stream's own index. In the partitions behind a stream the look ends at the edge of their index.
var streamQuery = pageQuery(`stream_id = $3 and version > $4
	and position >= (select first_position from streams where stream_id = $3)`, "version")

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, streamID uuid.UUID, afterVersion int) iter.Seq2[eventstore.Event, error] {
	return pages(func(last *eventstore.Event) ([]eventstore.Event, error) {
		if last != nil {
			afterVersion = last.Version
		}
		return s.collect(ctx, streamQuery, readPage, readBytes, streamID, afterVersion)
	})
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Event, error] {
	query := pageQuery("position > $3", "position")
	return pages(func(last *eventstore.Event) ([]eventstore.Event, error) {
		if last != nil {
			after = last.Position
		}
		return s.collect(ctx, query, readPage, readBytes, after)
	})
}

// pageQuery reads $1 events in order, and none behind the first $2 bytes of data.
func pageQuery(where, order string) string {
	return fmt.Sprintf(`select %[1]s from (
			select *, sum(octet_length(data)) over (order by %[3]s) - coalesce(octet_length(data), 0) as bytes_before
			from events where %[2]s order by %[3]s limit $1
		) page where coalesce(bytes_before, 0) < $2 order by %[3]s`, EventColumns, where, order)
}

func (s *Store) collect(ctx context.Context, query string, args ...any) ([]eventstore.Event, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	events, err := pgx.CollectRows(rows, ScanEvent)
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	return events, nil
}

// pages yields the events of page after page until one comes back short.
func pages(next func(last *eventstore.Event) ([]eventstore.Event, error)) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		var last *eventstore.Event
		for {
			page, err := next(last)
			if err != nil {
				yield(eventstore.Event{}, err)
				return
			}
			bytes := 0
			for _, e := range page {
				bytes += len(e.Data)
				if !yield(e, nil) {
					return
				}
			}
			if len(page) < readPage && bytes < readBytes {
				return
			}
			last = &page[len(page)-1]
		}
	}
}

package postgres

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
)

// What one page of ReadStream and ReadAll holds at most: so many events, and no more once they are so large. A payload
// larger than inlineBytes is fetched apart, so that a page of events that are all large is never in memory.
const (
	readPage    = 1000
	readBytes   = 8 << 20
	inlineBytes = 8 << 10
)

// streamQuery does not look into the partitions from before the stream's first event. That it has no other end is on
// purpose: Postgres takes a range whose ends it does not know for a narrow one, and would read that instead of the
// stream's own index. In the partitions behind a stream the look ends at the edge of their index. That it does not look
// beyond the page's last version keeps Postgres, which takes all streams for short ones, from sorting the whole of a long
// one for each page.
var (
	streamQuery = pageQuery(`stream_id = $3 and version > $4::integer and version <= $4::integer + $1::integer
		and position >= (select first_position from streams where stream_id = $3)`, "version")
	allQuery = pageQuery("position > $3", "position")
)

// pageQuery reads $1 events in order, with the payloads up to $2 bytes and with the sizes of the others.
func pageQuery(where, order string) string {
	columns := strings.TrimSuffix(EventColumns, "data")
	return fmt.Sprintf(`select %s case when octet_length(data) <= $2 then data end, case when octet_length(data) > $2 then octet_length(data) else 0 end
		from events where %s order by %s limit $1`, columns, where, order)
}

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, streamID uuid.UUID, afterVersion int) iter.Seq2[eventstore.Event, error] {
	return pages(func(last *eventstore.Event, spare []eventstore.Event) page {
		if last != nil {
			afterVersion = last.Version
		}
		return s.readPage(ctx, spare, streamQuery, streamID, afterVersion)
	})
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Event, error] {
	return pages(func(last *eventstore.Event, spare []eventstore.Event) page {
		if last != nil {
			after = last.Position
		}
		return s.readPage(ctx, spare, allQuery, after)
	})
}

// page is what one round trip brings.
type page struct {
	events []eventstore.Event
	last   bool // there were no more
	err    error
}

// pages yields the events of page after page. The next one is on its way while one is used; no connection is held
// meanwhile, because whoever uses the events may need one. A page that was used is the memory for the next but one.
func pages(read func(last *eventstore.Event, spare []eventstore.Event) page) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		var spare []eventstore.Event
		for p := read(nil, nil); ; {
			if p.err != nil {
				yield(eventstore.Event{}, p.err)
				return
			}
			next := make(chan page, 1) // whoever stops early does not wait for it
			if !p.last {
				go func() { next <- read(&p.events[len(p.events)-1], spare) }()
			}
			for i := range p.events {
				if !yield(p.events[i], nil) {
					return
				}
			}
			if p.last {
				return
			}
			used := p.events[:0]
			p = <-next
			spare = used
		}
	}
}

func (s *Store) readPage(ctx context.Context, spare []eventstore.Event, query string, args ...any) page {
	args = append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}, readPage, inlineBytes}, args...)
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return page{err: fmt.Errorf("read the log: %w", err)}
	}
	events, sizes, err := parsePage(rows, spare)
	if err != nil {
		return page{err: fmt.Errorf("read the log: %w", err)}
	}
	fitting := fit(events, sizes)
	p := page{events: events[:fitting], last: fitting == len(events) && len(events) < readPage}
	p.err = s.fetchPayloads(ctx, p.events, sizes)
	return p
}

// parsePage reads all rows, with the sizes of the payloads that were left out.
func parsePage(rows pgx.Rows, events []eventstore.Event) (_ []eventstore.Event, sizes []int, err error) {
	defer rows.Close()
	for rows.Next() {
		values := rows.RawValues()
		e, err := ParseEvent(values[:len(values)-1])
		if err != nil {
			return nil, nil, err
		}
		size := rawRow{values: values[len(values)-1:]}
		events, sizes = append(events, e), append(sizes, size.integer())
	}
	return events, sizes, rows.Err()
}

// fit tells how many of a page's events there is room for: none behind the first readBytes.
func fit(events []eventstore.Event, sizes []int) int {
	bytes := 0
	for i := range events {
		if bytes >= readBytes {
			return i
		}
		bytes += len(events[i].Data) + sizes[i]
	}
	return len(events)
}

// fetchPayloads adds the payloads that were left out. One that was moved to the archive meanwhile stays away.
func (s *Store) fetchPayloads(ctx context.Context, events []eventstore.Event, sizes []int) error {
	missing := map[eventstore.Position]*eventstore.Event{}
	var positions []eventstore.Position
	for i := range events {
		if sizes[i] > 0 {
			missing[events[i].Position] = &events[i]
			positions = append(positions, events[i].Position)
		}
	}
	if len(positions) == 0 {
		return nil
	}
	rows, err := s.pool.Query(ctx, "select position, data from events where position = any($1)", positions)
	if err != nil {
		return fmt.Errorf("read large payloads of the log: %w", err)
	}
	var position eventstore.Position
	var data []byte
	_, err = pgx.ForEachRow(rows, []any{&position, &data}, func() error {
		missing[position].Data = data
		return nil
	})
	if err != nil {
		return fmt.Errorf("read large payloads of the log: %w", err)
	}
	return nil
}

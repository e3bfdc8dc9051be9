package proof

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// The table of streams is made of the events, but readers and writers take its word: where a stream begins, nothing in front
// is looked at, and how many events it has decides which appends are accepted.

// checkCounted makes sure that the table has each stream of a batch with all its events, and its beginning if the batch has
// it. Servers may append meanwhile, so it may have more. newest are the versions with which the streams leave the batch.
func (c *checker) checkCounted(ctx context.Context, b batch, newest map[pgtype.UUID]int32) error {
	var last []*row // of each stream in the batch
	begins := make(map[pgtype.UUID]int64, len(newest))
	for i := range b.rows {
		r := &b.rows[i]
		if r.version == newest[r.stream] {
			last = append(last, r)
		}
		if r.version == 1 {
			begins[r.stream] = r.position
		}
	}
	streams, versions, firsts := make([]pgtype.UUID, len(last)), make([]int32, len(last)), make([]pgtype.Int8, len(last))
	for i, r := range last {
		first, begun := begins[r.stream]
		streams[i], versions[i], firsts[i] = r.stream, r.version, pgtype.Int8{Int64: first, Valid: begun}
	}
	rows, err := c.db.Query(ctx, `select n, coalesce(s.version, 0), coalesce(s.first_position, 0)
		from unnest($1::uuid[], $2::int[], $3::bigint[]) with ordinality as seen (stream_id, version, first, n) left join streams s using (stream_id)
		where s.stream_id is null or s.version < seen.version or s.first_position <> seen.first`, streams, versions, firsts)
	if err != nil {
		return fmt.Errorf("look up streams: %w", err)
	}
	var n, version, first int64
	_, err = pgx.ForEachRow(rows, []any{&n, &version, &first}, func() error {
		c.miscounted(last[n-1], begins[last[n-1].stream], version, first)
		return nil
	})
	if err != nil {
		return fmt.Errorf("look up streams: %w", err)
	}
	return nil
}

// miscounted reports what the table says by the stream of an event, which begins at a position, 0 when that is not known.
func (c *checker) miscounted(r *row, begins, version, first int64) {
	if version < int64(r.version) {
		c.report.add(r.position, "The table of streams says that stream %s has %d events, but version %d is at position %d: the next append would not fit.",
			r.stream, version, r.version, r.position)
	}
	if begins > 0 && version > 0 && first != begins {
		c.report.add(begins, "The table of streams says that stream %s begins at position %d, but its first event is at position %d: whoever reads it may miss events.",
			r.stream, first, begins)
	}
}

// checkCounts makes sure that the table of streams has no event more than the log, once it is known to have none less. Only
// when the sum is wrong is it worth the time to look which stream it is.
func (c *checker) checkCounts(ctx context.Context) error {
	var right bool
	err := c.db.QueryRow(ctx, "select coalesce(sum(version), 0) = (select position from head) and coalesce(min(version), 1) > 0 from streams").Scan(&right)
	if err != nil {
		return fmt.Errorf("count the events of the streams: %w", err)
	}
	if right {
		return nil
	}
	rows, err := c.db.Query(ctx, `select s.stream_id, s.version, s.first_position, coalesce(e.version, 0), coalesce(e.position, s.first_position)
		from streams s left join (
			select stream_id, max(version) as version, max(position) as position from events group by stream_id
		) e using (stream_id)
		where s.version > coalesce(e.version, 0) or s.version < 1
		limit $1`, mostProblems+1)
	if err != nil {
		return fmt.Errorf("count the events of the streams: %w", err)
	}
	var stream pgtype.UUID
	var said, first, has, last int64
	_, err = pgx.ForEachRow(rows, []any{&stream, &said, &first, &has, &last}, func() error {
		c.report.add(last, "The table of streams says that stream %s, from position %d on, has %d events, but the log has %d of it, the last at position %d.",
			stream, first, said, has, last)
		return nil
	})
	if err != nil {
		return fmt.Errorf("count the events of the streams: %w", err)
	}
	return nil
}

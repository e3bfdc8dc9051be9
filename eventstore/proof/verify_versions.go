package proof

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// checkVersions makes sure that the versions of each stream count 1, 2, 3, … along the log. What a batch does not show
// itself, the version in front of a stream's first one in it, is looked up.
func (c *checker) checkVersions(ctx context.Context, b batch) error {
	newest := make(map[pgtype.UUID]int32, len(b.rows))
	var begun []*row // the first of their streams in this batch, and not version 1
	for i := range b.rows {
		r := &b.rows[i]
		before, seen := newest[r.stream]
		switch {
		case seen && r.version != before+1:
			c.outOfOrder(r)
		case !seen && r.version != 1:
			begun = append(begun, r)
		}
		newest[r.stream] = r.version
	}
	return errors.Join(c.checkPredecessors(ctx, begun, b.from), c.checkCounted(ctx, b, newest))
}

func (c *checker) outOfOrder(r *row) {
	c.report.add(r.position, "The event at position %d (%s) does not follow version %d of its stream.", r.position, r.about(), r.version-1)
}

// checkPredecessors makes sure that the version in front of each of these events stands before that position.
func (c *checker) checkPredecessors(ctx context.Context, rows []*row, before int64) error {
	if len(rows) == 0 {
		return nil
	}
	streams, versions := make([]pgtype.UUID, len(rows)), make([]int32, len(rows))
	for i, r := range rows {
		streams[i], versions[i] = r.stream, r.version-1
	}
	found, err := c.db.Query(ctx, `select n from unnest($1::uuid[], $2::int[]) with ordinality as wanted (stream_id, version, n)
		where not exists (select from events e where e.stream_id = wanted.stream_id and e.version = wanted.version and e.position < $3)`,
		streams, versions, before)
	if err != nil {
		return fmt.Errorf("look up versions of streams: %w", err)
	}
	var n int
	_, err = pgx.ForEachRow(found, []any{&n}, func() error {
		c.outOfOrder(rows[n-1])
		return nil
	})
	if err != nil {
		return fmt.Errorf("look up versions of streams: %w", err)
	}
	return nil
}

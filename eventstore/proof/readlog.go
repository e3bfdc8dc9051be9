package proof

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// What a batch holds at most: so many positions, and no event more once their payloads are so large.
const (
	batchEvents = 16 * tileWidth
	batchBytes  = 16 << 20
)

// batch is all events that the log has at the positions from to upto, in order.
type batch struct {
	from, upto int64
	rows       []row
	err        error // why the log could not be read; the last batch then
}

// readLog reads the log up to a position, ahead of whoever takes the batches. It ends early when ctx ends.
func readLog(ctx context.Context, db *pgxpool.Pool, upto int64) <-chan batch {
	batches := make(chan batch, 2)
	send := func(b batch) bool {
		select {
		case batches <- b:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(batches)
		// Many short statements and no long one, which would keep Postgres from cleaning up after the writers.
		for from := int64(1); from <= upto; from += batchEvents {
			err := readBatches(ctx, db, from, min(from+batchEvents-1, upto), send)
			if err != nil {
				send(batch{err: err})
				return
			}
		}
	}()
	return batches
}

// readBatches hands over the events at these positions, in one batch unless they are large.
func readBatches(ctx context.Context, db querier, from, upto int64, send func(batch) bool) error {
	rows, err := db.Query(ctx, "select "+leafColumns+", data from events where position between $1 and $2 order by position", from, upto)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	b := batch{from: from, rows: make([]row, 0, upto-from+1)}
	scanner := newRowScanner()
	for bytes := 0; rows.Next(); {
		r, err := scanner.scan(rows)
		if err != nil {
			return err
		}
		b.rows = append(b.rows, r)
		if bytes += len(r.data); bytes >= batchBytes {
			b.upto = r.position
			if !send(b) {
				return ctx.Err()
			}
			b, bytes = batch{from: r.position + 1}, 0
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if b.upto = upto; b.from <= upto && !send(b) {
		return ctx.Err()
	}
	return nil
}

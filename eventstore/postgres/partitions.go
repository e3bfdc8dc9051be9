package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
)

// DefaultPartitionSize is how many positions a partition of the log has. At some 600 bytes an event it is a good half of
// a gigabyte: large enough that a big log has few partitions, small enough to be archived in one go.
const DefaultPartitionSize = 1_000_000

// leastAhead is how many positions behind the head have a partition at least: more than several processes can append
// before each of them has looked again.
const leastAhead = 2 * maxBatchEvents

// Option changes how a store is opened.
type Option func(*options)

type options struct{ partitionSize int64 }

// PartitionSize sets how many positions the partitions have that are made from now on.
func PartitionSize(positions int64) Option {
	return func(o *options) { o.partitionSize = positions }
}

// addPartition makes the next partition when the last one ends too near to the head, under the lock of the appends.
const (
	addPartition = `select add_events_partition($1)
		from head, (select max(upto_position) as upto from partitions) last
		where last.upto <= head.position + $2`
	partitionedUpto = "select (select max(upto_position) from partitions), position from head"
)

// keepAhead makes partitions before the head reaches them, so that no append ever waits for one or fails without.
func (w *writer) keepAhead(ctx context.Context, head eventstore.Position) error {
	ahead := max(w.partitionSize/2, leastAhead)
	for w.partitionedUpto <= int64(head)+ahead {
		var round pgx.Batch // one implicit transaction
		round.Queue("select pg_advisory_xact_lock($1)", int64(appendLock))
		round.Queue(addPartition, w.partitionSize, ahead)
		round.Queue(partitionedUpto).QueryRow(func(row pgx.Row) error {
			return row.Scan(&w.partitionedUpto, &head)
		})
		if err := w.conn.SendBatch(ctx, &round).Close(); err != nil {
			return fmt.Errorf("make a partition of the log: %w", err)
		}
	}
	return nil
}

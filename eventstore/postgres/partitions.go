package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/voltrun/voltrun/eventstore"
)

// DefaultPartitionSize is how many positions a partition of the log has. At some 600 bytes an event it is a good half of
// a gigabyte: large enough that a big log has few partitions, small enough to be archived in one go.
const DefaultPartitionSize = 1_000_000

// leastAhead is how many positions behind the head have a partition at least: more than several processes can append
// before each of them has looked again.
const leastAhead = 2 * maxBatchEvents

// A partition that is not urgent yet does not wait for whoever holds a lock on the log, because all appends would wait
// with it. It is tried again after a while.
const (
	partitionLockTimeout = "100ms"
	partitionRetry       = 2 * time.Second
)

// Option changes how a store is opened.
type Option func(*options)

type options struct{ partitionSize int64 }

// PartitionSize sets how many positions the partitions have that are made from now on. A log without events gets them
// from its first one on.
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
	if w.partitionedUpto == 0 {
		if err := w.conn.QueryRow(ctx, partitionedUpto).Scan(&w.partitionedUpto, &head); err != nil {
			return fmt.Errorf("read the partitions of the log: %w", err)
		}
	}
	ahead := max(w.partitionSize/2, leastAhead)
	for w.partitionedUpto <= int64(head)+ahead {
		lockTimeout := partitionLockTimeout
		switch urgent := w.partitionedUpto <= int64(head)+leastAhead; {
		case urgent:
			lockTimeout = "0" // for ever
		case time.Now().Before(w.partitionAgain):
			return nil
		}
		w.partitionAgain = time.Now().Add(partitionRetry)
		if err := w.addPartition(ctx, ahead, lockTimeout, &head); err != nil {
			return fmt.Errorf("make a partition of the log: %w", err)
		}
	}
	return nil
}

func (w *writer) addPartition(ctx context.Context, ahead int64, lockTimeout string, head *eventstore.Position) error {
	var round pgx.Batch // one implicit transaction
	round.Queue("select pg_advisory_xact_lock($1)", int64(appendLock))
	round.Queue("select set_config('lock_timeout', $1, true)", lockTimeout)
	round.Queue(addPartition, w.partitionSize, ahead)
	round.Queue(partitionedUpto).QueryRow(func(row pgx.Row) error {
		return row.Scan(&w.partitionedUpto, head)
	})
	return w.conn.SendBatch(ctx, &round).Close()
}

// fitEmptyLog gives a log without events partitions of this size, unless a writer is at work already: that one knows the
// partitions that there are.
func fitEmptyLog(ctx context.Context, pool *pgxpool.Pool, partitionSize int64) error {
	var round pgx.Batch // one implicit transaction
	round.Queue("select pg_advisory_xact_lock($1)", int64(appendLock))
	round.Queue(`select fit_empty_log($1) where not exists (
		select from pg_stat_activity where datname = current_database() and application_name like $2)`, partitionSize, writerName+" %")
	if err := pool.SendBatch(ctx, &round).Close(); err != nil {
		return fmt.Errorf("make the first partition of the log: %w", err)
	}
	return nil
}

// Partition is a part of the log: the positions From to To, both included.
type Partition struct {
	From, To eventstore.Position
	Newest   time.Time // when the event at To was recorded
}

// table is the partition's own table.
func (p Partition) table() string { return fmt.Sprintf("events_%d", p.From) }

// ClosedPartitions returns the partitions that are full, in order: nothing will ever be added to them.
func (s *Store) ClosedPartitions(ctx context.Context) ([]Partition, error) {
	rows, err := s.pool.Query(ctx, `select p.from_position, p.upto_position - 1, e.recorded_at
		from partitions p join head h on p.upto_position <= h.position + 1 join events e on e.position = p.upto_position - 1
		order by p.from_position`)
	if err != nil {
		return nil, fmt.Errorf("list the partitions of the log: %w", err)
	}
	closed, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Partition])
	if err != nil {
		return nil, fmt.Errorf("list the partitions of the log: %w", err)
	}
	return closed, nil
}

package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/voltrun/voltrun/eventstore"
)

// ErrNotEmpty answers when a history is to be written into a log that has one.
var ErrNotEmpty = errors.New("the log has events already")

// FillEmpty writes a whole history into a log that has none, all or nothing. write may use the transaction for what stands
// beside the log, and calls copyEvents once, with a function that returns the events in order from position 1 on and then
// nil. Appends wait until it is done.
func (s *Store) FillEmpty(ctx context.Context, write func(tx pgx.Tx, copyEvents func(next func() (*eventstore.Event, error)) error) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(appendLock)); err != nil {
			return fmt.Errorf("lock the log: %w", err)
		}
		var head int64
		if err := tx.QueryRow(ctx, "select position from head").Scan(&head); err != nil {
			return fmt.Errorf("read the head of the log: %w", err)
		}
		if head > 0 {
			return ErrNotEmpty
		}
		filling := filling{tx: tx, partitionSize: s.writer.partitionSize}
		if err := write(tx, func(next func() (*eventstore.Event, error)) error { return filling.copy(ctx, next) }); err != nil {
			return err
		}
		return filling.finish(ctx)
	})
}

// filling copies events into partitions that it makes on the way.
type filling struct {
	tx            pgx.Tx
	partitionSize int64
	head          eventstore.Position
	newest        time.Time         // when the event at the head was recorded
	pending       *eventstore.Event // read, and to be copied next
	failed        error             // why there is no next one; Postgres has no good word for it
}

// copy copies a partition's events at a time.
func (f *filling) copy(ctx context.Context, next func() (*eventstore.Event, error)) error {
	var upto eventstore.Position // of the partitions that there are
	err := f.tx.QueryRow(ctx, "select max(upto_position) from partitions").Scan(&upto)
	for err == nil {
		if f.pending == nil {
			if f.pending, err = f.read(next); f.pending == nil {
				return err
			}
		}
		if f.pending.Position >= upto {
			err = f.tx.QueryRow(ctx, "select add_events_partition($1)", f.partitionSize).Scan(&upto)
			continue
		}
		_, err = f.tx.CopyFrom(ctx, pgx.Identifier{"events"}, fillColumns, pgx.CopyFromFunc(func() ([]any, error) {
			return f.row(next, upto)
		}))
	}
	return cmp.Or(f.failed, err)
}

// row is the next row for partitions up to a position.
func (f *filling) row(next func() (*eventstore.Event, error), upto eventstore.Position) ([]any, error) {
	e := f.pending
	if e == nil {
		var err error
		if e, err = f.read(next); e == nil {
			return nil, err
		}
	}
	if f.pending = e; e.Position >= upto {
		return nil, nil
	}
	f.pending = nil
	f.head, f.newest = e.Position, e.RecordedAt
	return fillRow(e)
}

func (f *filling) read(next func() (*eventstore.Event, error)) (*eventstore.Event, error) {
	e, err := next()
	if err == nil && e != nil && (e.Position != f.head+1 || e.RecordedAt.Before(f.newest)) {
		err = fmt.Errorf("event %d of %s follows event %d of %s", e.Position, e.RecordedAt, f.head, f.newest)
	}
	if err != nil {
		f.failed = err
		return nil, err
	}
	return e, nil
}

// fillColumns are the columns of fillRow.
var fillColumns = []string{
	"position", "stream_id", "version", "recorded_at", "id", "type", "schema_version", "account_id", "actor_kind", "actor_id",
	"actor_prefix", "correlation_id", "causation_id", "commitment", "headers", "data",
}

func fillRow(e *eventstore.Event) ([]any, error) {
	headers, err := encodeHeaders(e.Headers)
	if err != nil {
		return nil, err
	}
	return []any{
		int64(e.Position), pgUUID(e.StreamID), int32(e.Version), e.RecordedAt, pgUUID(e.ID), e.Type, int16(e.SchemaVersion),
		pgUUID(e.AccountID), string(e.Actor.Kind), pgUUID(e.Actor.ID), pgtype.Text{String: e.Actor.Prefix, Valid: e.Actor.Prefix != ""},
		pgUUID(e.CorrelationID), pgUUID(e.CausationID), e.Commitment[:], headers, e.Data,
	}, nil
}

// finish makes everything that follows from the events.
func (f *filling) finish(ctx context.Context) error {
	var round pgx.Batch
	round.Queue("insert into streams (stream_id, version, first_position) select stream_id, max(version), min(position) from events group by stream_id")
	round.Queue("update head set position = $1, recorded_at = $2", f.head, f.newest)
	round.Queue("analyze events")
	round.Queue("analyze streams")
	round.Queue("select pg_notify($1, $2::text)", channel, fmt.Sprint(f.head))
	round.Queue("select count(*) from (select from events group by stream_id having max(version) <> count(*) or min(version) <> 1) broken").
		QueryRow(func(row pgx.Row) error {
			var broken int
			err := row.Scan(&broken)
			if err == nil && broken > 0 {
				err = fmt.Errorf("%d streams have gaps", broken)
			}
			return err
		})
	if err := f.tx.SendBatch(ctx, &round).Close(); err != nil {
		return fmt.Errorf("finish the log: %w", err)
	}
	return nil
}

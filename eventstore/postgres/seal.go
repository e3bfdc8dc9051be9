package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// sealBatch is how many payloads are sealed at a time. What is sealed is not sealed again after a kill.
const sealBatch = 2000

// sealedMark is the consumer of the checkpoint that says that every payload which belongs to an account is sealed. A whole
// log that is exported takes it along.
const sealedMark = "sealed"

// SealPlain seals what early versions have written in plain form although it belongs to an account: otherwise no erasure
// could reach it. Commitments stay, and nothing of the plain payloads is left in the database. It looks through the log once
// in its life, and returns at once from then on. It may be killed at any moment; the next call goes on. The events of an
// account that was erased are sealed under a key that nobody has.
func (s *Store) SealPlain(ctx context.Context, keys *eventstore.KeyRing, logger *slog.Logger) error {
	sealed, err := s.allSealed(ctx)
	if err != nil || sealed {
		return err
	}
	unlock, err := s.lock(ctx, "voltrun sealing")
	if err != nil {
		return err
	}
	defer unlock()
	if sealed, err = s.allSealed(ctx); err != nil || sealed { // by somebody else, meanwhile
		return err
	}
	if err := (sealing{s, keys, logger}).run(ctx); err != nil {
		return fmt.Errorf("seal what early versions have written: %w", err)
	}
	return nil
}

func (s *Store) allSealed(ctx context.Context) (sealed bool, err error) {
	err = s.pool.QueryRow(ctx, "select exists (select from checkpoints where consumer = $1)", sealedMark).Scan(&sealed)
	if err != nil {
		return false, fmt.Errorf("look whether the log is sealed: %w", err)
	}
	return sealed, nil
}

type sealing struct {
	store  *Store
	keys   *eventstore.KeyRing
	logger *slog.Logger
}

func (s sealing) run(ctx context.Context) error {
	var begun bool // by a process that did not come to the end
	if err := s.store.pool.QueryRow(ctx, "select to_regclass('sealed_payloads') is not null").Scan(&begun); err != nil {
		return err
	}
	// What is sealed waits in a table of its own, until its partition is rewritten.
	_, err := s.store.pool.Exec(ctx, "create table if not exists sealed_payloads (position bigint not null primary key, data bytea not null)")
	if err != nil {
		return err
	}
	partitions, err := s.partitions(ctx)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		found, err := s.seal(ctx, p)
		if err != nil {
			return fmt.Errorf("events %d to %d: %w", p.From, p.To, err)
		}
		begun = begun || found
	}
	if begun {
		if err := s.forgetPlain(ctx); err != nil {
			return err
		}
	}
	var round pgx.Batch // one implicit transaction
	round.Queue("drop table sealed_payloads")
	round.Queue("insert into checkpoints (consumer, topic, position) select $1, '', position from head", sealedMark)
	return s.store.pool.SendBatch(ctx, &round).Close()
}

// partitions are those that have events.
func (s sealing) partitions(ctx context.Context) ([]Partition, error) {
	rows, err := s.store.pool.Query(ctx, "select from_position, upto_position - 1, recorded_at from partitions, head where from_position <= position order by 1")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Partition])
}

// seal seals what is plain in a partition, and tells whether something was.
func (s sealing) seal(ctx context.Context, p Partition) (found bool, err error) {
	for after, more := p.From-1, true; more; {
		if after, more, err = s.batch(ctx, p, after); err != nil {
			return false, err
		}
	}
	var n int64
	err = s.store.pool.QueryRow(ctx, "select count(*) from sealed_payloads where position between $1 and $2", p.From, p.To).Scan(&n)
	if err != nil || n == 0 {
		return false, err
	}
	s.logger.InfoContext(ctx, "payloads of accounts that an early version has written are sealed", "from", p.From, "to", p.To, "events", n)
	w, end, err := s.store.rewrite(ctx, p, s.logger)
	if err != nil {
		return false, err
	}
	defer end()
	return true, w.replaceSealed(ctx)
}

// batch seals plain payloads behind a position, and returns where the next ones may be.
func (s sealing) batch(ctx context.Context, p Partition, after eventstore.Position) (next eventstore.Position, more bool, err error) {
	events, err := s.plain(ctx, p, after)
	if err != nil || len(events) == 0 {
		return 0, false, err
	}
	positions, payloads := make([]eventstore.Position, len(events)), make([][]byte, len(events))
	for i, e := range events {
		positions[i] = e.Position
		if payloads[i], err = s.keys.SealPlain(ctx, e.NewEvent); err != nil {
			return 0, false, fmt.Errorf("event %d: %w", e.Position, err)
		}
	}
	_, err = s.store.pool.Exec(ctx, "insert into sealed_payloads select * from unnest($1::bigint[], $2::bytea[])", positions, payloads)
	return positions[len(positions)-1], true, err
}

// plain are events whose payload belongs to an account and is not sealed, here or in the table of those that are.
func (s sealing) plain(ctx context.Context, p Partition, after eventstore.Position) ([]eventstore.Event, error) {
	rows, err := s.store.pool.Query(ctx, "select "+EventColumns+" from "+p.table()+` e
		where position > $1 and account_id is not null and type <> all($2) and substring(data for 1) = '\x00' and octet_length(data) > $4
			and not exists (select from sealed_payloads s where s.position = e.position)
		order by position limit $3`, after, domain.ImpersonalTypes(), sealBatch, eventstore.SaltSize)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, ScanEvent)
}

// replaceSealed puts the sealed payloads in the place of the plain ones. Appends wait meanwhile when the log still grows in
// this partition.
func (w rewriting) replaceSealed(ctx context.Context) error {
	if err := w.holdAppends(ctx); err != nil {
		return err
	}
	defer w.letAppend(ctx)
	w.from = w.partition.table() + " e left join sealed_payloads k on k.position = e.position"
	w.payload = "case when e.data is not null then coalesce(k.data, e.data) end"
	err := pgx.BeginFunc(ctx, w.source, func(tx pgx.Tx) error {
		if err := w.build(ctx); err != nil {
			return err
		}
		_, err := w.compare(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	return w.swap(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "delete from sealed_payloads where position between $1 and $2", w.partition.From, w.partition.To)
		return err
	})
}

// holdAppends lets nobody append to the partition until letAppend is called. It does nothing for one that is full.
func (w rewriting) holdAppends(ctx context.Context) error {
	_, err := w.source.Exec(ctx, "select pg_advisory_lock($1) from head where position < $2", int64(appendLock), w.partition.To)
	return err
}

func (w rewriting) letAppend(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockWithin)
	defer cancel()
	if _, err := w.source.Exec(ctx, "select pg_advisory_unlock($1)", int64(appendLock)); err != nil {
		closeNow(w.source)
	}
}

// forgetPlain removes the planner's statistics of plain payloads, which hold samples, and sees to it that a crash does not
// bring back files that were dropped.
func (s sealing) forgetPlain(ctx context.Context) error {
	for _, statement := range []string{"analyze events", "vacuum full pg_statistic"} {
		if _, err := s.store.pool.Exec(ctx, statement); err != nil {
			return err
		}
	}
	_, err := s.store.Checkpoint(ctx)
	return err
}

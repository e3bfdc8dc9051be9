package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// How a rewriting gets the lock under which it swaps. Readers and appends queue behind each try, so it is short.
const (
	swapLockTimeout = "50ms"
	swapRetry       = 100 * time.Millisecond
	swapRetryMost   = 2 * time.Second
	swapTriesQuiet  = 50 // then it is said that somebody is in the way
)

// rewrittenSchema is where the partition's copy is built.
const rewrittenSchema = "voltrun_rewritten"

// rewriting replaces payloads of a partition, and nothing else of its events. Nothing is changed in place: a copy of the
// partition is built beside it, compared with what it should be, and put in its place in one short transaction. What stood
// in the old one is in no file of the database any more. Appends and readers wait for that moment only; those that read with
// a snapshot from before see every event all the same. A run that was killed leaves nothing but a copy, which the next one
// removes.
type rewriting struct {
	partition      Partition
	from           string // the partition's rows e, joined with whatever payload needs
	payload        string // what stands for the payload of e in the copy
	source, target *pgx.Conn
	logger         *slog.Logger
}

// rewrite prepares the rewriting of a partition. One may be at work at a time: the others wait here.
func (s *Store) rewrite(ctx context.Context, p Partition, logger *slog.Logger) (w rewriting, end func(), err error) {
	unlock, err := s.lock(ctx, "voltrun rewriting")
	if err != nil {
		return w, nil, err
	}
	source, err := s.pool.Acquire(ctx)
	if err != nil {
		unlock()
		return w, nil, err
	}
	target, err := s.pool.Acquire(ctx)
	if err != nil {
		source.Release()
		unlock()
		return w, nil, err
	}
	w = rewriting{partition: p, source: source.Conn(), target: target.Conn(), logger: logger}
	return w, func() { target.Release(); source.Release(); unlock() }, nil
}

// rows selects the partition's rows as they shall be.
func (w rewriting) rows() string {
	columns := strings.Replace("e."+strings.Join(strings.Fields(EventColumns), " e."), "e.data", w.payload+" as data", 1)
	return fmt.Sprintf("select %s from %s", columns, w.from)
}

// build makes the copy. Its rows are frozen from the start: in a partition that came later, transactions which began
// before the swap would see none of them otherwise.
func (w rewriting) build(ctx context.Context) error {
	finish, err := w.definitions(ctx)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, w.target, func(tx pgx.Tx) error {
		for _, statement := range []string{
			"drop schema if exists " + rewrittenSchema + " cascade", "create schema " + rewrittenSchema,
			fmt.Sprintf("create table %s (like %s including defaults, constraint in_range check (position >= %d and position <= %d))",
				w.copied(), w.partition.table(), w.partition.From, w.partition.To),
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		if err := w.copyRows(ctx); err != nil {
			return err
		}
		for _, statement := range append(finish, "analyze "+w.copied()) {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// definitions are the statements that give the copy what the partition has: the same indexes, by the same names, and the
// triggers that are its own. Those of the whole log come with the swap.
func (w rewriting) definitions(ctx context.Context) ([]string, error) {
	rows, err := w.source.Query(ctx, `
		select replace(pg_get_indexdef(i.indexrelid), format(' ON %I.%I ', n.nspname, t.relname), ' ON '||$2||' ')
			|| case when i.indisprimary then format('; alter table %s add primary key using index %I', $2, c.relname) else '' end
		from pg_class t join pg_namespace n on n.oid = t.relnamespace join pg_index i on i.indrelid = t.oid join pg_class c on c.oid = i.indexrelid
		where t.oid = $1::text::regclass
		union all
		select replace(pg_get_triggerdef(g.oid), format(' ON %I.%I ', n.nspname, t.relname), ' ON '||$2||' ')
		from pg_class t join pg_namespace n on n.oid = t.relnamespace join pg_trigger g on g.tgrelid = t.oid
		where t.oid = $1::text::regclass and not g.tgisinternal and g.tgparentid = 0`, w.partition.table(), w.copied())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (w rewriting) copied() string { return rewrittenSchema + "." + w.partition.table() }

// copyRows lets the rows run from one connection into the other.
func (w rewriting) copyRows(ctx context.Context) error {
	reader, writer := io.Pipe()
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		_, err := w.source.PgConn().CopyTo(ctx, writer, "copy ("+w.rows()+" order by e.position) to stdout (format binary)")
		_ = writer.CloseWithError(err) // never fails
		return err
	})
	both.Go(func() error {
		_, err := w.target.PgConn().CopyFrom(ctx, reader, "copy "+w.copied()+" ("+EventColumns+") from stdin (format binary, freeze)")
		_ = reader.CloseWithError(err) // never fails
		return err
	})
	return both.Wait()
}

// digest is what the copy and its model must agree in.
type digest struct {
	rows, payloads int64
	sum            string
}

func digestOf(ctx context.Context, tx pgx.Tx, rows string) (d digest, err error) {
	err = tx.QueryRow(ctx, "select count(*), count(data), coalesce(sum(hashtextextended(r::text, 0)), 0)::text from ("+rows+") r").
		Scan(&d.rows, &d.payloads, &d.sum)
	return d, err
}

// compare makes sure that the copy is what it should be, in the transaction of the source, and returns how many payloads it has.
func (w rewriting) compare(ctx context.Context, tx pgx.Tx) (payloads int64, err error) {
	want, err := digestOf(ctx, tx, w.rows())
	if err != nil {
		return 0, err
	}
	got, err := digestOf(ctx, tx, "select "+EventColumns+" from "+w.copied())
	if err == nil && want != got {
		err = errors.New("the copy of the partition is not what it should be")
	}
	return got.payloads, err
}

// swap puts the copy into the partition's place. It tries until nobody is in the way or ctx endw.
func (w rewriting) swap(ctx context.Context, done func(pgx.Tx) error) error {
	for try, wait := 1, swapRetry; ; try, wait = try+1, min(2*wait, swapRetryMost) {
		err := pgx.BeginFunc(ctx, w.target, func(tx pgx.Tx) error { return w.trySwap(ctx, tx, done) })
		if !IsLocked(err) {
			return err
		}
		if try%swapTriesQuiet == 0 {
			w.logger.Warn("somebody holds a lock on the log for long, such as a dump; waiting for them", "tries", try)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w rewriting) trySwap(ctx context.Context, tx pgx.Tx, done func(pgx.Tx) error) error {
	table := w.partition.table()
	var round pgx.Batch
	for _, statement := range []string{
		"set local lock_timeout = '" + swapLockTimeout + "'",
		"alter table events detach partition " + table,
		"drop table " + table,
		"do $$ begin execute format('alter table " + w.copied() + " set schema %I', current_schema()); end $$",
		fmt.Sprintf("alter table events attach partition %s for values from (%d) to (%d)", table, w.partition.From, w.partition.To+1),
		"alter table " + table + " drop constraint in_range", // it has spared the attachment a look at the table
		"drop schema " + rewrittenSchema,
	} {
		round.Queue(statement)
	}
	if err := tx.SendBatch(ctx, &round).Close(); err != nil {
		return err
	}
	return done(tx)
}

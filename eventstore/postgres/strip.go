package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/voltrun/voltrun/eventstore"
)

// Kept is a payload that is safe outside the log: its position, and the SHA-256 of its stored form.
type Kept struct {
	Position eventstore.Position
	SHA256   [32]byte
}

// How StripPayloads gets the lock under which it swaps. Readers and appends queue behind each try, so it is short.
const (
	swapLockTimeout = "50ms"
	swapRetry       = 100 * time.Millisecond
	swapRetryMost   = 2 * time.Second
	swapTriesQuiet  = 50 // then it is said that somebody is in the way
)

// strippedSchema is where the partition's copy is built.
const strippedSchema = "voltrun_stripped"

// StripPayloads takes the kept payloads out of a closed partition: everything else of their events stays. Nothing is
// changed in place. A copy of the partition without them is built beside it, compared with it, and put in its place in
// one short transaction, in which done runs as well. Appends and readers wait for that moment only; those that read
// with a snapshot from before see every event all the same.
//
// It fails, and changes nothing, when a kept payload is not in the partition or not the one that stands there. A run
// that was killed leaves nothing but a copy, which the next run removes. Only one may be at work at a time.
func (s *Store) StripPayloads(ctx context.Context, p Partition, kept iter.Seq2[Kept, error], logger *slog.Logger, done func(pgx.Tx) error) error {
	source, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("strip a partition: %w", err)
	}
	defer source.Release()
	target, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("strip a partition: %w", err)
	}
	defer target.Release()
	st := stripping{p, source.Conn(), target.Conn(), logger}
	if err := st.run(ctx, kept, done); err != nil {
		return fmt.Errorf("strip the payloads of events %d to %d: %w", p.From, p.To, err)
	}
	return nil
}

type stripping struct {
	partition      Partition
	source, target *pgx.Conn
	logger         *slog.Logger
}

func (s stripping) run(ctx context.Context, kept iter.Seq2[Kept, error], done func(pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.source, func(tx pgx.Tx) error {
		count, err := listKept(ctx, tx, kept)
		if err != nil {
			return err
		}
		if err := s.build(ctx); err != nil {
			return err
		}
		return s.compare(ctx, tx, count)
	})
	if err != nil {
		return err
	}
	return s.swap(ctx, done) // with no transaction of our own in the way
}

// listKept puts the kept payloads into a table of the transaction.
func listKept(ctx context.Context, tx pgx.Tx, kept iter.Seq2[Kept, error]) (int64, error) {
	_, err := tx.Exec(ctx, "create temporary table kept (position bigint not null primary key, sha256 bytea not null) on commit drop")
	if err != nil {
		return 0, err
	}
	next, stop := iter.Pull2(kept)
	defer stop()
	count, err := tx.CopyFrom(ctx, pgx.Identifier{"kept"}, []string{"position", "sha256"}, pgx.CopyFromFunc(func() ([]any, error) {
		k, err, more := next()
		if err != nil || !more {
			return nil, err
		}
		return []any{int64(k.Position), k.SHA256[:]}, nil
	}))
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, "analyze kept")
	return count, err
}

// stripped selects the partition's rows as they shall be.
func (s stripping) stripped() string {
	columns := strings.Replace("e."+strings.Join(strings.Fields(EventColumns), " e."), "e.data", "case when k.position is null then e.data end as data", 1)
	return fmt.Sprintf("select %s from %s e left join kept k on k.position = e.position and k.sha256 = sha256(e.data)",
		columns, s.partition.table())
}

// build makes the copy. Its rows are frozen from the start: in a partition that came later, transactions which began
// before the swap would see none of them otherwise.
func (s stripping) build(ctx context.Context) error {
	finish, err := s.definitions(ctx)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.target, func(tx pgx.Tx) error {
		for _, statement := range []string{
			"drop schema if exists " + strippedSchema + " cascade", "create schema " + strippedSchema,
			fmt.Sprintf("create table %s (like %s including defaults, constraint in_range check (position >= %d and position <= %d))",
				s.copied(), s.partition.table(), s.partition.From, s.partition.To),
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		if err := s.copyRows(ctx); err != nil {
			return err
		}
		for _, statement := range append(finish, "analyze "+s.copied()) {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// definitions are the statements that give the copy what the partition has: the same indexes, by the same names, and the
// triggers that are its own. Those of the whole log come with the swap.
func (s stripping) definitions(ctx context.Context) ([]string, error) {
	rows, err := s.source.Query(ctx, `
		select replace(pg_get_indexdef(i.indexrelid), format(' ON %I.%I ', n.nspname, t.relname), ' ON '||$2||' ')
			|| case when i.indisprimary then format('; alter table %s add primary key using index %I', $2, c.relname) else '' end
		from pg_class t join pg_namespace n on n.oid = t.relnamespace join pg_index i on i.indrelid = t.oid join pg_class c on c.oid = i.indexrelid
		where t.oid = $1::text::regclass
		union all
		select replace(pg_get_triggerdef(g.oid), format(' ON %I.%I ', n.nspname, t.relname), ' ON '||$2||' ')
		from pg_class t join pg_namespace n on n.oid = t.relnamespace join pg_trigger g on g.tgrelid = t.oid
		where t.oid = $1::text::regclass and not g.tgisinternal and g.tgparentid = 0`, s.partition.table(), s.copied())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (s stripping) copied() string { return strippedSchema + "." + s.partition.table() }

// copyRows lets the rows run from one connection into the other.
func (s stripping) copyRows(ctx context.Context) error {
	reader, writer := io.Pipe()
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		_, err := s.source.PgConn().CopyTo(ctx, writer, "copy ("+s.stripped()+" order by e.position) to stdout (format binary)")
		_ = writer.CloseWithError(err) // never fails
		return err
	})
	both.Go(func() error {
		_, err := s.target.PgConn().CopyFrom(ctx, reader, "copy "+s.copied()+" ("+EventColumns+") from stdin (format binary, freeze)")
		_ = reader.CloseWithError(err) // never fails
		return err
	})
	return both.Wait()
}

// compare makes sure that the copy is the partition without the kept payloads, and that those are all in it.
func (s stripping) compare(ctx context.Context, tx pgx.Tx, kept int64) error {
	digest := func(rows string) string {
		return "select count(*), count(data), coalesce(sum(hashtextextended(r::text, 0)), 0)::text from (" + rows + ") r"
	}
	var want, got, before struct {
		rows, payloads int64
		sum            string
	}
	table := "select " + EventColumns + " from "
	if err := tx.QueryRow(ctx, digest(s.stripped())).Scan(&want.rows, &want.payloads, &want.sum); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, digest(table+s.copied())).Scan(&got.rows, &got.payloads, &got.sum); err != nil {
		return err
	}
	if want != got {
		return errors.New("the copy of the partition is not what it should be")
	}
	if err := tx.QueryRow(ctx, "select count(data) from "+s.partition.table()).Scan(&before.payloads); err != nil {
		return err
	}
	if missing := kept - (before.payloads - got.payloads); missing != 0 {
		return fmt.Errorf("%d of the %d payloads that are kept are not those that stand in the log", missing, kept)
	}
	return nil
}

// swap puts the copy into the partition's place. It tries until nobody is in the way or ctx ends.
func (s stripping) swap(ctx context.Context, done func(pgx.Tx) error) error {
	for try, wait := 1, swapRetry; ; try, wait = try+1, min(2*wait, swapRetryMost) {
		err := pgx.BeginFunc(ctx, s.target, func(tx pgx.Tx) error { return s.trySwap(ctx, tx, done) })
		if !isLocked(err) {
			return err
		}
		if try%swapTriesQuiet == 0 {
			s.logger.Warn("somebody holds a lock on the log for long, such as a dump; waiting for them", "tries", try)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s stripping) trySwap(ctx context.Context, tx pgx.Tx, done func(pgx.Tx) error) error {
	table := s.partition.table()
	var round pgx.Batch
	for _, statement := range []string{
		"set local lock_timeout = '" + swapLockTimeout + "'",
		"alter table events detach partition " + table,
		"drop table " + table,
		"do $$ begin execute format('alter table " + s.copied() + " set schema %I', current_schema()); end $$",
		fmt.Sprintf("alter table events attach partition %s for values from (%d) to (%d)", table, s.partition.From, s.partition.To+1),
		"alter table " + table + " drop constraint in_range", // it has spared the attachment a look at the table
		"drop schema " + strippedSchema,
	} {
		round.Queue(statement)
	}
	if err := tx.SendBatch(ctx, &round).Close(); err != nil {
		return err
	}
	return done(tx)
}

// isLocked tells whether somebody else's lock was in the way, so that trying again can help.
func isLocked(err error) bool {
	const lockNotAvailable, deadlockDetected = "55P03", "40P01"
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == lockNotAvailable || refused.Code == deadlockDetected)
}

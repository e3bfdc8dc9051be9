package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore/feed"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// While a swap waits for a lock, live pages and readers queue up behind it. It waits longer each time that it has to give
// up; the last wait is over a second, after which Postgres ends an autovacuum that is in the way.
const (
	firstLockTimeout = 100 * time.Millisecond
	lastLockTimeout  = 1200 * time.Millisecond
)

// mostBehind is how many events may be missing at a swap: live pages wait while they are folded.
const mostBehind = 2000

// errBehind says that too many events were missing at a swap.
var errBehind = errors.New("the log has grown too much")

// mayRetry tells whether a swap that failed can be tried again after a moment.
func mayRetry(err error) bool {
	return errors.Is(err, errBehind) || postgres.IsLocked(err)
}

// swap puts the generation in the place of the tables that serve, in one transaction: fill completes it up to where those
// are, or it stays ahead of them. Whoever reads sees the one or the other, and the read model never goes back.
func (g *generation) swap(ctx context.Context, lockTimeout time.Duration, fill func(context.Context, Position) error) error {
	return pgx.BeginFunc(ctx, g.conn, func(tx pgx.Tx) error {
		served, err := g.lockForSwap(ctx, tx, lockTimeout)
		if err != nil {
			return err
		}
		if served-g.position > mostBehind {
			return errBehind
		}
		if g.guard != nil {
			if err := g.guard(ctx); err != nil {
				return err
			}
		}
		if err := fill(ctx, served); err != nil {
			return err
		}
		if err := g.replace(ctx, tx); err != nil {
			return fmt.Errorf("swap the tables: %w", err)
		}
		return nil
	})
}

// lockForSwap returns how far the tables that serve have come, and keeps them there: the lock on the checkpoint is the one
// that every live page takes first. Only an autovacuum can be in the way to the new tables, and waiting for it there
// holds nobody up.
func (g *generation) lockForSwap(ctx context.Context, tx pgx.Tx, lockTimeout time.Duration) (served Position, err error) {
	for _, statement := range []string{
		"set local synchronous_commit to on",
		"lock table " + strings.Join(g.projection.tableNames(), ", ") + " in access exclusive mode",
		fmt.Sprintf("set local lock_timeout to %d", lockTimeout.Milliseconds()),
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return 0, err
		}
	}
	if err := lockCheckpoint(ctx, tx, g.live, g.projection); err != nil {
		return 0, err
	}
	return g.checkpoint(ctx)
}

// lockCheckpoint waits until no page of the projection is in flight, and keeps new ones out until tx ends.
func lockCheckpoint(ctx context.Context, tx pgx.Tx, schema string, p *Projection) error {
	_, err := tx.Exec(ctx, "insert into "+schema+".checkpoints (consumer, topic, position) values ($1, $2, 0) on conflict do nothing",
		p.ConsumerName(), feed.All)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "select from "+schema+".checkpoints where consumer = $1 and topic = $2 for update", p.ConsumerName(), feed.All)
	return err
}

func (g *generation) replace(ctx context.Context, tx pgx.Tx) error {
	old, err := g.served(ctx, tx)
	if err != nil {
		return err
	}
	if len(old) > 0 {
		if _, err := tx.Exec(ctx, "lock table "+strings.Join(old, ", ")+" in access exclusive mode"); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, createSchema(g.retired())); err != nil {
		return err
	}
	if err := move(ctx, tx, old, quote(g.retired())); err != nil {
		return err
	}
	if err := move(ctx, tx, g.projection.tableNames(), g.live); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "update "+g.live+".checkpoints set position = $3 where consumer = $1 and topic = $2 and position < $3",
		g.projection.ConsumerName(), feed.All, g.position)
	if err != nil {
		return err
	}
	return g.projection.register(ctx, tx, g.live)
}

// served lists the tables that serve, also those that only an older version has.
func (g *generation) served(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `select c.oid::regclass::text from pg_class c
		where c.relkind = 'r' and c.relnamespace = $1::regnamespace and c.relname in (
			select unnest($2::text[]) union select unnest(tables) from `+g.live+`.projections where name = $3)`,
		g.live, g.projection.tableNames(), g.projection.Name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// register notes that this version keeps the tables and has built all that is in them.
func (p *Projection) register(ctx context.Context, tx pgx.Tx, schema string) error {
	_, err := tx.Exec(ctx, `insert into `+schema+`.projections (name, version, built, tables) values ($1, $2, $2, $3)
		on conflict (name) do update set version = excluded.version, built = excluded.built, tables = excluded.tables`,
		p.Name, p.Version, p.tableNames())
	return err
}

// move takes tables to another schema, with their indexes and what the planner knows of them. Statistics on several
// columns are the one thing that does not move with its table.
func move(ctx context.Context, tx pgx.Tx, tables []string, schema string) error {
	rows, err := tx.Query(ctx, `select format('alter statistics %I.%I set schema %s', n.nspname, s.stxname, $2::text)
		from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace
		where s.stxrelid = any($1::text[]::regclass[])`, tables, schema)
	if err != nil {
		return err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, table := range tables {
		statements = append(statements, "alter table "+table+" set schema "+schema)
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Secrets are rewritten under a lock for which everybody else queues up while it is waited for. The last wait is over a
// second, after which Postgres ends an autovacuum that is in the way.
const (
	firstRewriteWait = 150 * time.Millisecond
	lastRewriteWait  = 1200 * time.Millisecond
)

// secretTables are the tables that hold secrets, and which of their rows are to be kept: an answer that was on its way when
// its account was erased is not.
var secretTables = []struct{ name, keep string }{
	{"vault", "true"},
	{"answers", "not exists (select from vault where owner = answers.account_id and name = '" + erasedMark + "')"},
}

// RewriteSecrets makes new files of the tables that hold secrets. What was deleted and replaced in them until then is in no
// file of the database any more; Postgres otherwise leaves it where it was until the space is needed. It fails when a
// transaction of somebody else, such as a backup's, keeps the tables for longer than a moment.
func (s *Store) RewriteSecrets(ctx context.Context) error {
	for _, table := range secretTables {
		if err := s.rewrite(ctx, table.name, table.keep); err != nil {
			return fmt.Errorf("rewrite the table %s: %w", table.name, err)
		}
	}
	return nil
}

func (s *Store) rewrite(ctx context.Context, table, keep string) error {
	for wait := firstRewriteWait; ; wait *= 2 {
		err := s.rewriteWithin(ctx, table, keep, wait)
		if wait >= lastRewriteWait || !isLockTimeout(err) {
			return err
		}
		select {
		case <-time.After(wait): // those who queued up behind the lock go first
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rewriteWithin copies the rows that there are out of the table and, when its file is a new one, in again. A vacuum would
// keep deleted rows that an open transaction could still see.
func (s *Store) rewriteWithin(ctx context.Context, table, keep string, wait time.Duration) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, statement := range []string{
			fmt.Sprintf("set local lock_timeout to %d", wait.Milliseconds()),
			"lock table " + table + " in access exclusive mode",
			"create temporary table kept on commit drop as select * from " + table + " where " + keep,
			"truncate " + table,
			"insert into " + table + " table kept",
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

func isLockTimeout(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "55P03" || pgErr.Code == "40P01")
}

// Checkpoint sees to it that a crash does not bring back the content of files that were dropped: recovery would make them
// again, and drop them again, from the last checkpoint on. Who may not ask for one has to wait for Postgres's own, which
// comes within minutes: now is false then.
func (s *Store) Checkpoint(ctx context.Context) (now bool, err error) {
	_, err = s.pool.Exec(ctx, "checkpoint")
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42501" {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("checkpoint: %w", err)
	}
	return true, nil
}

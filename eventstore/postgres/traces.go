package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/voltrun/voltrun/eventstore"
)

// The vault is rewritten under a lock for which everybody else queues up while it is waited for. The last wait is over a
// second, after which Postgres ends an autovacuum that is in the way.
const (
	firstRewriteWait = 150 * time.Millisecond
	lastRewriteWait  = 1200 * time.Millisecond
)

// RewriteVault makes a new file of the vault. What was deleted and replaced in it until then is in no file of the database
// any more; Postgres otherwise leaves it where it was until the space is needed. It fails when a transaction of somebody
// else, such as a backup's, keeps the vault for longer than a moment. It takes the vault's size in memory.
func (s *Store) RewriteVault(ctx context.Context) error {
	for wait := firstRewriteWait; ; wait *= 2 {
		err := s.rewriteVaultWithin(ctx, wait)
		if err == nil {
			return nil
		}
		if wait >= lastRewriteWait || !IsLocked(err) {
			return fmt.Errorf("rewrite the vault: %w", err)
		}
		select {
		case <-time.After(wait): // those who queued up behind the lock go first
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rewriteVaultWithin takes the rows out of the table and, when its file is a new one, puts them in again. They come back
// frozen, which is visible to everybody: a backup that has begun, but has not come to the vault, would else find it empty.
// A vacuum would not do, because it keeps deleted rows that an open transaction could still see.
func (s *Store) rewriteVaultWithin(ctx context.Context, wait time.Duration) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf("set local lock_timeout to %d; lock table vault in access exclusive mode", wait.Milliseconds()))
		if err != nil {
			return err
		}
		var rows bytes.Buffer
		conn := tx.Conn().PgConn()
		if _, err := conn.CopyTo(ctx, &rows, "copy vault to stdout (format binary)"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "truncate vault"); err != nil {
			return err
		}
		_, err = conn.CopyFrom(ctx, &rows, "copy vault from stdin (format binary, freeze)")
		return err
	})
}

// ForgetLateAnswers deletes the answers of erased accounts that were on their way when the account was erased. What is left
// of an answer in the table's file is no trace of anything: nobody can open it without the key of its request.
func (s *Store) ForgetLateAnswers(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, "delete from answers a using vault v where v.owner = a.account_id and v.name = $1", eventstore.ErasedMark)
	if err != nil {
		return fmt.Errorf("forget the answers of erased accounts: %w", err)
	}
	return nil
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

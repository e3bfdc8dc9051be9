package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// unlockWithin bounds how long giving a lock back may take.
const unlockWithin = 5 * time.Second

// TryLock takes the lock of this name over all processes, for work of which there is one at a time, or answers false when
// somebody has it. It holds one of the pool's connections until unlock is called. Who dies loses the lock.
func (s *Store) TryLock(ctx context.Context, name string) (unlock func(), locked bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("take the lock of %s: %w", name, err)
	}
	err = conn.QueryRow(ctx, "select pg_try_advisory_lock(hashtextextended($1, 0))", name).Scan(&locked)
	if err != nil || !locked {
		conn.Release()
		return nil, false, err
	}
	return func() { giveBack(ctx, conn, name) }, true, nil
}

// lock is TryLock that waits until it has the lock.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	conn, err := s.pool.Acquire(ctx)
	if err == nil {
		_, err = conn.Exec(ctx, "select pg_advisory_lock(hashtextextended($1, 0))", name)
	}
	if err != nil {
		if conn != nil {
			conn.Release()
		}
		return nil, fmt.Errorf("take the lock of %s: %w", name, err)
	}
	return func() { giveBack(ctx, conn, name) }, nil
}

func giveBack(ctx context.Context, conn *pgxpool.Conn, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockWithin)
	defer cancel()
	if _, err := conn.Exec(ctx, "select pg_advisory_unlock(hashtextextended($1, 0))", name); err != nil {
		closeNow(conn.Conn()) // or the next one that gets this connection would have the lock
	}
	conn.Release()
}

// IsLocked tells whether somebody else's lock was in the way, so that trying again can help: lock_timeout is over, or it was
// a deadlock.
func IsLocked(err error) bool {
	const lockNotAvailable, deadlockDetected = "55P03", "40P01"
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == lockNotAvailable || refused.Code == deadlockDetected)
}

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
)

// Put implements eventstore.Vault.
func (s *Store) Put(ctx context.Context, owner uuid.UUID, name string, secret []byte) error {
	_, err := s.pool.Exec(ctx, `
		insert into vault (owner, name, secret) values ($1, $2, $3)
		on conflict (owner, name) do update set secret = excluded.secret`, owner, name, secret)
	if err != nil {
		return fmt.Errorf("store the %s of %s: %w", name, owner, err)
	}
	return nil
}

// Get implements eventstore.Vault.
func (s *Store) Get(ctx context.Context, owner uuid.UUID, name string) ([]byte, error) {
	var secret []byte
	err := s.pool.QueryRow(ctx, "select secret from vault where owner = $1 and name = $2", owner, name).Scan(&secret)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, eventstore.ErrNoSecret
	}
	if err != nil {
		return nil, fmt.Errorf("read the %s of %s: %w", name, owner, err)
	}
	return secret, nil
}

// Forget implements eventstore.Vault.
func (s *Store) Forget(ctx context.Context, owner uuid.UUID) error {
	_, err := s.pool.Exec(ctx, "with answered as (delete from answers where account_id = $1) delete from vault where owner = $1", owner)
	if err != nil {
		return fmt.Errorf("forget the secrets of %s: %w", owner, err)
	}
	return nil
}

// lockOwner orders PutNew and Erase of one owner, so that nothing is stored for an owner behind the back of an erasure.
const lockOwner = "select pg_advisory_xact_lock(hashtextextended('vault ' || $1::text, 0))"

// PutNew implements eventstore.Vault.
func (s *Store) PutNew(ctx context.Context, owner uuid.UUID, name string, secret []byte) (kept []byte, err error) {
	var round pgx.Batch // one implicit transaction
	round.Queue(lockOwner, owner)
	round.Queue(`insert into vault (owner, name, secret)
		select $1, $2, $3 where not exists (select from vault where owner = $1 and name = $4)
		on conflict (owner, name) do nothing`, owner, name, secret, eventstore.ErasedMark)
	round.Queue("select secret from vault where owner = $1 and name = $2", owner, name).QueryRow(func(row pgx.Row) error {
		return row.Scan(&kept)
	})
	err = s.pool.SendBatch(ctx, &round).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, eventstore.ErrNoSecret
	}
	if err != nil {
		return nil, fmt.Errorf("store the %s of %s: %w", name, owner, err)
	}
	return kept, nil
}

// Erase implements eventstore.Vault. Every process that listens is told, see OnErase.
func (s *Store) Erase(ctx context.Context, owner uuid.UUID) error {
	var round pgx.Batch // one implicit transaction
	round.Queue(lockOwner, owner)
	round.Queue("delete from vault where owner = $1 and name <> $2", owner, eventstore.ErasedMark)
	round.Queue("delete from answers where account_id = $1", owner)
	round.Queue("insert into vault (owner, name, secret) values ($1, $2, '') on conflict (owner, name) do nothing", owner, eventstore.ErasedMark)
	round.Queue("select pg_notify($1, $2::uuid::text)", erasedChannel, owner)
	if err := s.pool.SendBatch(ctx, &round).Close(); err != nil {
		return fmt.Errorf("erase the secrets of %s: %w", owner, err)
	}
	return nil
}

// Erased implements eventstore.Vault.
func (s *Store) Erased(ctx context.Context, owner uuid.UUID) (erased bool, err error) {
	err = s.pool.QueryRow(ctx, "select exists (select from vault where owner = $1 and name = $2)", owner, eventstore.ErasedMark).Scan(&erased)
	if err != nil {
		return false, fmt.Errorf("look whether %s was erased: %w", owner, err)
	}
	return erased, nil
}

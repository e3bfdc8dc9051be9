package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
)

var _ eventstore.Wrapped = (*Store)(nil)

// rewrapBatch is how many secrets Rewrap replaces in one transaction. They are locked meanwhile.
const rewrapBatch = 1000

// Rewrap implements eventstore.Wrapped.
func (s *Store) Rewrap(
	ctx context.Context, name string, newest []byte, rewrap func(uuid.UUID, []byte) ([]byte, error), report func(done int),
) error {
	done, from := 0, uuid.Nil
	for {
		owners, err := s.rewrapFrom(ctx, from, name, newest, rewrap)
		if err != nil {
			return fmt.Errorf("wrap secrets anew: %w", err)
		}
		if len(owners) == 0 {
			return nil
		}
		from = owners[len(owners)-1] // and what lies before is not looked at again
		done += len(owners)
		report(done)
	}
}

func (s *Store) rewrapFrom(
	ctx context.Context, from uuid.UUID, name string, newest []byte, rewrap func(uuid.UUID, []byte) ([]byte, error),
) (owners []uuid.UUID, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `select owner, secret from vault
			where owner >= $1 and name = $2 and substring(secret for octet_length($3::bytea)) <> $3
			order by owner limit $4 for update`, from, name, newest, rewrapBatch)
		if err != nil {
			return err
		}
		var secrets [][]byte
		if owners, secrets, err = collectSecrets(rows); err != nil {
			return err
		}
		for i, owner := range owners {
			if secrets[i], err = rewrap(owner, secrets[i]); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `update vault v set secret = fresh.secret
			from unnest($1::uuid[], $2::bytea[]) as fresh (owner, secret) where v.owner = fresh.owner and v.name = $3`, owners, secrets, name)
		return err
	})
	return owners, err
}

func collectSecrets(rows pgx.Rows) (owners []uuid.UUID, secrets [][]byte, err error) {
	var owner uuid.UUID
	var secret []byte
	_, err = pgx.ForEachRow(rows, []any{&owner, &secret}, func() error {
		owners, secrets = append(owners, owner), append(secrets, append([]byte(nil), secret...))
		return nil
	})
	return owners, secrets, err
}

// CountByPrefix implements eventstore.Wrapped.
func (s *Store) CountByPrefix(ctx context.Context, name string, bytes int) (map[string]int, error) {
	rows, err := s.pool.Query(ctx, "select substring(secret for $2), count(*) from vault where name = $1 group by 1", name, bytes)
	if err != nil {
		return nil, fmt.Errorf("count secrets: %w", err)
	}
	counts := map[string]int{}
	var prefix []byte
	var n int
	_, err = pgx.ForEachRow(rows, []any{&prefix, &n}, func() error {
		counts[string(prefix)] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count secrets: %w", err)
	}
	return counts, nil
}

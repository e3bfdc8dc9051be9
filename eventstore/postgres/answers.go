package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore"
)

// KeepAnswer implements eventstore.Answers.
func (s *Store) KeepAnswer(ctx context.Context, answer eventstore.Answer, now time.Time) ([]byte, error) {
	// When an answer is kept already, the statement writes nothing, and may not see it either: it may be newer than the
	// statement's snapshot. The next statement sees it, unless its time is over just now.
	for {
		stored, err := s.pool.Exec(ctx, `
			insert into answers (id, account_id, answer, kept_until) values ($1, $2, $3, $4)
			on conflict (id) do update
				set account_id = excluded.account_id, answer = excluded.answer, kept_until = excluded.kept_until
				where answers.kept_until <= $5`,
			answer.ID, pgUUID(answer.AccountID), answer.Sealed, answer.KeptUntil, now)
		if err != nil {
			return nil, fmt.Errorf("keep answer %s: %w", answer.ID, err)
		}
		if stored.RowsAffected() == 1 {
			return answer.Sealed, nil
		}
		kept, err := s.Answer(ctx, answer.ID, now)
		if !errors.Is(err, eventstore.ErrNoAnswer) {
			return kept, err
		}
	}
}

// Answer implements eventstore.Answers.
func (s *Store) Answer(ctx context.Context, id uuid.UUID, now time.Time) ([]byte, error) {
	var sealed []byte
	err := s.pool.QueryRow(ctx, "select answer from answers where id = $1 and kept_until > $2", id, now).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, eventstore.ErrNoAnswer
	}
	if err != nil {
		return nil, fmt.Errorf("read answer %s: %w", id, err)
	}
	return sealed, nil
}

// PruneAnswers implements eventstore.Answers.
func (s *Store) PruneAnswers(ctx context.Context, now time.Time) (int, error) {
	pruned, err := s.pool.Exec(ctx, "delete from answers where kept_until <= $1", now)
	if err != nil {
		return 0, fmt.Errorf("prune the answers: %w", err)
	}
	return int(pruned.RowsAffected()), nil
}

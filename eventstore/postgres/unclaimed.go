package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// unclaimedQuery finds the requests for executions in whose streams nothing else stands. The type is a literal, so that the
// partial index on it serves. That the stream is not joined keeps Postgres from reading all streams.
func unclaimedQuery(where string) string {
	return fmt.Sprintf(`select %s from events e where e.type = '%s' and %s
		and (select s.version from streams s where s.stream_id = e.stream_id) = 1
		order by e.position limit $1`,
		"e."+strings.Join(strings.Fields(EventColumns), " e."), domain.ExecutionRequested{}.EventType(), where)
}

var (
	unclaimedBetween = unclaimedQuery("e.position between $2 and $3")
	unclaimedOf      = unclaimedQuery("e.account_id = $2 and e.position > $3")
)

// Unclaimed returns the requests for executions between two positions, both included, that nobody has claimed, at most limit
// of them in the order of positions.
func (s *Store) Unclaimed(ctx context.Context, from, to eventstore.Position, limit int) ([]eventstore.Event, error) {
	return s.unclaimed(ctx, unclaimedBetween, limit, from, to)
}

// UnclaimedOf is Unclaimed for what stands behind a position and concerns an account.
func (s *Store) UnclaimedOf(ctx context.Context, accountID uuid.UUID, after eventstore.Position, limit int) ([]eventstore.Event, error) {
	return s.unclaimed(ctx, unclaimedOf, limit, accountID, after)
}

func (s *Store) unclaimed(ctx context.Context, query string, args ...any) ([]eventstore.Event, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read the executions that wait: %w", err)
	}
	events, err := pgx.CollectRows(rows, ScanEvent)
	if err != nil {
		return nil, fmt.Errorf("read the executions that wait: %w", err)
	}
	return events, nil
}

// Changed returns the functions that were changed or deleted between two positions, both included.
func (s *Store) Changed(ctx context.Context, from, to eventstore.Position) ([]uuid.UUID, error) {
	rows, err := s.pool.Query(ctx, "select distinct stream_id from events where position between $1 and $2 and type = any($3)",
		from, to, []string{domain.FunctionUpdated{}.EventType(), domain.FunctionDeleted{}.EventType()})
	if err != nil {
		return nil, fmt.Errorf("read the functions that were changed: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("read the functions that were changed: %w", err)
	}
	return ids, nil
}

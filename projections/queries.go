package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Querier is a pgx pool, connection or transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Queries is everything that can be read from the projections.
type Queries struct {
	Accounts   Accounts
	Functions  Functions
	Executions Executions
	Logs       Logs
	Keys       Keys
}

// NewQueries makes the queries over a database.
func NewQueries(db Querier) *Queries {
	now := tables{db: db}
	return &Queries{
		Accounts: Accounts{db}, Functions: Functions{now}, Executions: Executions{now}, Logs: Logs{now}, Keys: Keys{now},
	}
}

// one returns the only row of a query, or absent when there is none.
func one[T any](ctx context.Context, db Querier, absent error, sql string, args ...any) (T, error) {
	var zero T
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return zero, fmt.Errorf("query a read model: %w", err)
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
	if errors.Is(err, pgx.ErrNoRows) {
		return zero, absent
	}
	if err != nil {
		return zero, fmt.Errorf("query a read model: %w", err)
	}
	return row, nil
}

// many returns all rows of a query, never nil.
func many[T any](ctx context.Context, db Querier, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("query a read model: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil {
		return nil, fmt.Errorf("query a read model: %w", err)
	}
	return list, nil
}

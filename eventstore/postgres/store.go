// Package postgres keeps VoltRun's log in Postgres.
//
// Appends from the whole process go through one writer on one connection, which commits them in groups: one statement
// and one round trip a group, under an advisory lock that also orders the groups of several processes. That is what
// makes positions dense without a queue at the head row, and what makes many small appends share one flush.
package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/voltrun/voltrun/eventstore"
)

// minPoolSize leaves room for requests beside the subscriptions to the log, which hold a connection each while they
// work. The DSN can ask for more with pool_max_conns.
const minPoolSize = 16

// Store is the log in Postgres, with the vault and the answers beside it.
type Store struct {
	pool    *pgxpool.Pool
	writer  *writer
	session *session
}

var (
	_ eventstore.Store   = (*Store)(nil)
	_ eventstore.Vault   = (*Store)(nil)
	_ eventstore.Answers = (*Store)(nil)
)

// Open connects to a migrated database and starts the writer and the session. processID names this process in its
// lease, see Store.Alive. Close must be called in the end.
func Open(ctx context.Context, dsn string, processID uuid.UUID, logger *slog.Logger, opts ...Option) (*Store, error) {
	chosen := options{partitionSize: DefaultPartitionSize}
	for _, opt := range opts {
		opt(&chosen)
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("parse the database address: %w", err)
	}
	config.MaxConns = max(config.MaxConns, minPoolSize)
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		scanTimesInUTC(conn.TypeMap())
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	if err := fitEmptyLog(ctx, pool, chosen.partitionSize); err != nil {
		pool.Close()
		return nil, err
	}
	session, err := startSession(ctx, config.ConnConfig, processID, logger)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	writer := startWriter(config.ConnConfig, chosen.partitionSize, session.committed, logger)
	return &Store{pool: pool, session: session, writer: writer}, nil
}

// scanTimesInUTC makes read times the same whatever the host's time zone is.
func scanTimesInUTC(types *pgtype.Map) {
	types.RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
}

// Close waits for the appends that were accepted, then closes every connection. Later calls fail with
// eventstore.ErrClosed. It may be called twice.
func (s *Store) Close() {
	s.writer.stop()
	s.session.stop()
	s.pool.Close()
}

// Pool is the connection pool for reads: the log's own, the projections' and the health check's.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// stuckAfter is how long an append may be under way before the log is no longer well.
const stuckAfter = 5 * time.Second

// Ping tells whether the database answers, and whether appends get through.
func (s *Store) Ping(ctx context.Context) error {
	if stuck := s.writer.stuck(); stuck > stuckAfter {
		return fmt.Errorf("the writer has been waiting for the database for %s", stuck.Round(time.Second))
	}
	return s.pool.Ping(ctx)
}

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	if err := eventstore.CheckWrites(writes); err != nil {
		return 0, err
	}
	return s.writer.append(ctx, writes)
}

// Head implements eventstore.Store.
func (s *Store) Head(ctx context.Context) (eventstore.Position, error) {
	var head eventstore.Position
	err := s.pool.QueryRow(ctx, "select position from head").Scan(&head)
	if err != nil {
		return 0, fmt.Errorf("read the head of the log: %w", err)
	}
	return head, nil
}

package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// copyRows is how many rows one transaction of COPY writes.
const copyRows = 1000

// content is what every event of the benchmarks says, and metadata who has done it.
var (
	benchData, benchCommitment = eventstore.Plain([]byte(`"` + strings.Repeat("x", payloadSize-2) + `"`))
	benchMetadata              = eventstore.Metadata{
		AccountID: uuid.New(), Actor: domain.Actor{Kind: domain.ActorUser, ID: uuid.New()}, CorrelationID: uuid.New(), CausationID: uuid.New(),
	}
)

func benchEvent() eventstore.NewEvent {
	return eventstore.NewEvent{
		ID: uuid.New(), Type: "test.happened", SchemaVersion: 1, Data: benchData, Commitment: benchCommitment, Metadata: benchMetadata,
	}
}

// benchColumns are the columns of which benchRow has the values.
var benchColumns = []string{
	"position", "stream_id", "version", "id", "type", "schema_version", "account_id", "actor_kind", "actor_id", "correlation_id",
	"causation_id", "recorded_at", "commitment", "data",
}

func benchRow(position int64, stream uuid.UUID, version int, eventType string) []any {
	m := benchMetadata
	return []any{
		position, stream, version, uuid.New(), eventType, 1, m.AccountID, string(m.Actor.Kind), m.Actor.ID, m.CorrelationID,
		m.CausationID, time.Now(), benchCommitment[:], benchData,
	}
}

// baseline is what Postgres does without the log: it writes into a table with the same columns and indexes as a partition
// of the log has.
type baseline struct{ pool *pgxpool.Pool }

func newBaseline(b *testing.B, dsn string) *baseline {
	b.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(b, err)
	config.MaxConns, config.MinConns = 32, 32 // as many as are best: more of them only compete for the cores
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	_, err = pool.Exec(context.Background(), `
		create table copied (like events_1 including indexes);
		create table unordered (like events_1 including indexes);
		create table ordered (like events_1 including indexes);
		create sequence unordered_position;
		create table ordered_head (position bigint not null) with (fillfactor = 10);
		insert into ordered_head values (0)`)
	require.NoError(b, err)
	return &baseline{pool}
}

// copyIn copies rows, a thousand in a transaction.
func (p *baseline) copyIn(b *testing.B) func(context.Context) error {
	conn := connect(b, p.pool.Config().ConnString())
	position := int64(0)
	return func(ctx context.Context) error {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, benchColumns, pgx.CopyFromSlice(copyRows, func(int) ([]any, error) {
			position++
			return benchRow(position, uuid.New(), 1, "test.happened"), nil
		}))
		return err
	}
}

const insertColumns = "(position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, correlation_id," +
	" causation_id, recorded_at, commitment, data) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"

// insertUnordered takes its position from a sequence.
func (p *baseline) insertUnordered(ctx context.Context) error {
	_, err := p.pool.Exec(ctx, "insert into unordered "+strings.Replace(insertColumns, "$1,", "nextval('unordered_position') + 0 * $1,", 1),
		benchRow(0, uuid.New(), 1, "test.happened")...)
	return err
}

// insertOrdered takes its position from the head row and holds the lock on it until the commit.
func (p *baseline) insertOrdered(ctx context.Context) error {
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		var position int64
		err := tx.QueryRow(ctx, "update ordered_head set position = position + 1 returning position").Scan(&position)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "insert into ordered "+insertColumns, benchRow(position, uuid.New(), 1, "test.happened")...)
		return err
	})
}

package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
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

// newID rises with time, as the ids do that commands make.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

func benchEvent() eventstore.NewEvent {
	return eventstore.NewEvent{
		ID: newID(), Type: "test.happened", SchemaVersion: 1, Data: benchData, Commitment: benchCommitment, Metadata: benchMetadata,
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

// baselineColumns are the columns that a row of the baselines has. The others are null in the log's events as well.
const baselineColumns = `(position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, correlation_id,
	causation_id, recorded_at, commitment, data)`

// copyIn copies rows, a thousand in a transaction, that are in the form of COPY already but for what tells them apart.
func (p *baseline) copyIn(b *testing.B) func(context.Context) error {
	conn := connect(b, p.pool.Config().ConnString()).PgConn()
	rows := newCopyRows(copyRows)
	return func(ctx context.Context) error {
		_, err := conn.CopyFrom(ctx, bytes.NewReader(rows.next()), "copy copied "+baselineColumns+" from stdin (format binary)")
		return err
	}
}

// insertUnordered takes its position from a sequence.
func (p *baseline) insertUnordered(ctx context.Context) error {
	_, err := p.pool.Exec(ctx, "insert into unordered "+baselineColumns+
		" values (nextval('unordered_position'), $1, 1, $2, 'test.happened', 1, $3, 'user', $4, $5, $6, now(), $7, $8)", insertArgs()...)
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
		_, err = tx.Exec(ctx, "insert into ordered "+baselineColumns+
			" values ($9, $1, 1, $2, 'test.happened', 1, $3, 'user', $4, $5, $6, now(), $7, $8)", append(insertArgs(), position)...)
		return err
	})
}

func insertArgs() []any {
	m := benchMetadata
	return []any{newID(), newID(), m.AccountID, m.Actor.ID, m.CorrelationID, m.CausationID, benchCommitment[:], benchData}
}

// copyData is a number of rows in the binary form of COPY.
type copyData struct {
	bytes    []byte
	rows     [][3]int // where the position, the stream id and the id of each row stand
	position uint64
}

func newCopyRows(rows int) *copyData {
	c := &copyData{bytes: []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")}
	for range rows {
		c.addRow()
	}
	c.bytes = append(c.bytes, 0xff, 0xff) // the end
	return c
}

func (c *copyData) addRow() {
	m := benchMetadata
	recordedAt := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds()
	c.bytes = binary.BigEndian.AppendUint16(c.bytes, 14)
	position := c.add(make([]byte, 8))
	stream := c.add(make([]byte, 16))
	c.add([]byte{0, 0, 0, 1})
	id := c.add(make([]byte, 16))
	c.add([]byte("test.happened"))
	c.add([]byte{0, 1})
	c.add(m.AccountID[:])
	c.add([]byte(m.Actor.Kind))
	c.add(m.Actor.ID[:])
	c.add(m.CorrelationID[:])
	c.add(m.CausationID[:])
	c.add(binary.BigEndian.AppendUint64(nil, uint64(recordedAt)))
	c.add(benchCommitment[:])
	c.add(benchData)
	c.rows = append(c.rows, [3]int{position, stream, id})
}

// add appends a field and returns where its value stands.
func (c *copyData) add(value []byte) int {
	c.bytes = binary.BigEndian.AppendUint32(c.bytes, uint32(len(value)))
	c.bytes = append(c.bytes, value...)
	return len(c.bytes) - len(value)
}

// next returns the rows with positions and ids that were not there before.
func (c *copyData) next() []byte {
	for _, row := range c.rows {
		c.position++
		stream, id := newID(), newID()
		binary.BigEndian.PutUint64(c.bytes[row[0]:], c.position)
		copy(c.bytes[row[1]:], stream[:])
		copy(c.bytes[row[2]:], id[:])
	}
	return c.bytes
}

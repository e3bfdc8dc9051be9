package feed

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/voltrun/voltrun/eventstore"
)

// lockCheckpoint reads how far a consumer has come. Whoever holds the lock is the one who reads on.
const lockCheckpoint = "select position from checkpoints where consumer = $1 and topic = $2 for update"

// ensureCheckpoint gives a new consumer the row that its readers lock.
func (f *Feed) ensureCheckpoint(ctx context.Context, consumer, topic string) error {
	_, err := f.pool.Exec(ctx,
		"insert into checkpoints (consumer, topic, position) values ($1, $2, 0) on conflict do nothing", consumer, topic)
	if err != nil {
		return fmt.Errorf("create the checkpoint of %s: %w", consumer, err)
	}
	return nil
}

// checkpoint reads how far a consumer has committed.
func (f *Feed) checkpoint(ctx context.Context, consumer, topic string) (eventstore.Position, error) {
	var position eventstore.Position
	err := f.pool.QueryRow(ctx, "select position from checkpoints where consumer = $1 and topic = $2", consumer, topic).
		Scan(&position)
	if err != nil {
		return 0, fmt.Errorf("read the checkpoint of %s: %w", consumer, err)
	}
	return position, nil
}

// SelectQuery implements wsql.SchemaAdapter.
func (s *subscription) SelectQuery(topic, consumer string, _ wsql.OffsetsAdapter) wsql.Query {
	return s.source.query(topic, consumer)
}

// SubscribeIsolationLevel implements wsql.SchemaAdapter. Read committed is enough: positions become visible in order,
// so whatever a statement sees behind the checkpoint has no gap.
func (s *subscription) SubscribeIsolationLevel() sql.IsolationLevel { return sql.LevelReadCommitted }

// AckMessageQuery implements wsql.OffsetsAdapter.
func (s *subscription) AckMessageQuery(topic string, row wsql.Row, consumer string) wsql.Query {
	s.acked = row.Offset
	return wsql.Query{
		Query: "update checkpoints set position = $3 where consumer = $1 and topic = $2",
		Args:  []any{consumer, topic, row.Offset},
	}
}

// NextOffsetQuery implements wsql.OffsetsAdapter.
func (s *subscription) NextOffsetQuery(topic, consumer string) wsql.Query {
	return wsql.Query{Query: lockCheckpoint, Args: []any{consumer, topic}}
}

// ConsumedMessageQuery implements wsql.OffsetsAdapter: the lock on the checkpoint is enough.
func (s *subscription) ConsumedMessageQuery(string, wsql.Row, string, []byte) wsql.Query {
	return wsql.Query{}
}

// BeforeSubscribingQueries implements wsql.OffsetsAdapter: see ensureCheckpoint, which does not wait at the gate.
func (s *subscription) BeforeSubscribingQueries(string, string) []wsql.Query { return nil }

// SchemaInitializingQueries implements both adapters: the tables are there.
func (s *subscription) SchemaInitializingQueries(string) []wsql.Query { return nil }

// InsertQuery implements wsql.SchemaAdapter: only the store appends.
func (s *subscription) InsertQuery(string, message.Messages) (wsql.Query, error) {
	return wsql.Query{}, errors.New("events are appended by the store only")
}

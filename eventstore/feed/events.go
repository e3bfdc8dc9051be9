package feed

import (
	"context"
	"fmt"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Events returns a subscriber that delivers one message for each event of the topic, which is an event type. Messages
// come in the order of positions, the next one when the one before was acked. gate may be nil.
func (f *Feed) Events(consumer string, gate Gate) *Subscriber {
	return newSubscriber(f, consumer, func(topic string) (source, error) {
		if topic == All {
			return nil, fmt.Errorf("consumer %s reads events of one type, not the topic %s", consumer, All)
		}
		return &events{gate: gate, limit: batchEvents}, nil
	})
}

// events reads the events of one type.
type events struct {
	gate  Gate
	limit int // of the next read
}

// ready waits at the gate and remembers how much fits through it.
func (e *events) ready(ctx context.Context) error {
	if e.gate == nil {
		return ctx.Err()
	}
	for {
		if free := e.gate.Free(); free > 0 {
			e.limit = min(free, batchEvents)
			return ctx.Err()
		}
		if err := e.gate.Wait(ctx); err != nil {
			return err
		}
	}
}

func (e *events) query(topic, consumer string) wsql.Query {
	return wsql.Query{
		Query: `select ` + postgres.EventColumns + ` from (
			select *, sum(octet_length(data)) over (order by position) - coalesce(octet_length(data), 0) as bytes_before
			from events where type = '` + topic + `' and position > (` + lockCheckpoint + `)
			order by position limit $3
		) batch where coalesce(bytes_before, 0) < $4 order by position`,
		Args: []any{consumer, topic, e.limit, readBytes},
	}
}

func (e *events) scan(row wsql.Scanner) (int64, wsql.Row, error) {
	event, err := postgres.ScanEvent(sqlRow{Scanner: row})
	if err != nil {
		return 0, wsql.Row{}, err
	}
	position := int64(event.Position)
	return position, wsql.Row{Offset: position, Msg: newMessage(event)}, nil
}

func (e *events) hold(context.Context, error) bool { return false }

// sqlRow lets a row of database/sql be read like one of pgx.
type sqlRow struct {
	pgx.CollectableRow // nil; only Scan is called
	wsql.Scanner
}

// Scan reads the row's columns.
func (r sqlRow) Scan(dest ...any) error { return r.Scanner.Scan(dest...) }

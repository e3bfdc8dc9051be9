package feed

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Page is a range of positions, both ends included.
type Page struct {
	From  eventstore.Position `json:"from"`
	To    eventstore.Position `json:"to"`
	Types []string            `json:"types"` // of the events that Events yields
}

// Tx is the open transaction that moves the checkpoint: what is written through it is committed together with it. It
// ends by itself.
type Tx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
}

// InPage lets a handler of Pages work on the page of its message. ctx ends when the consumer is closed.
func InPage(msg *message.Message, handle func(ctx context.Context, tx Tx, page Page) error) error {
	t := transactionOf(msg.Context())
	if t == nil {
		return fmt.Errorf("message %s does not come from a page consumer", msg.UUID)
	}
	var page Page
	if err := json.Unmarshal(msg.Payload, &page); err != nil {
		return fmt.Errorf("read the page of message %s: %w", msg.UUID, err)
	}
	return t.native(func(conn *pgx.Conn) error { return handle(msg.Context(), conn, page) })
}

// pageEventsQuery reads the wanted types only: most of a log is what other consumers want. That none of any type is missing is
// counted where they are.
const (
	pageCountQuery  = "select count(*) from events where position between $1 and $2"
	pageEventsQuery = "select " + postgres.EventColumns + " from events where position between $1 and $2 and type = any($3) order by position"
	missingQuery    = `select min(p) from generate_series($1::bigint, $2::bigint) p
		where not exists (select from events e where e.position = p and e.position between $1 and $2)`
)

// Events yields the page's events of the wanted types in order, as they come from the connection: tx is free for other
// statements when the last one was yielded. It may be called again. An event of any type that is missing is an error.
func (p Page) Events(ctx context.Context, tx Tx) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		if err := p.requireWhole(ctx, tx); err != nil {
			yield(eventstore.Event{}, err)
			return
		}
		rows, err := tx.Query(ctx, pageEventsQuery, p.From, p.To, p.Types)
		if err != nil {
			yield(eventstore.Event{}, p.unread(err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			event, err := postgres.ParseEvent(rows.RawValues())
			if !yield(event, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(eventstore.Event{}, p.unread(err))
		}
	}
}

func (p Page) unread(err error) error {
	return fmt.Errorf("read events %d to %d: %w", p.From, p.To, err)
}

// requireWhole makes sure that there is an event at each position.
func (p Page) requireWhole(ctx context.Context, tx Tx) error {
	var there, missing eventstore.Position
	if err := tx.QueryRow(ctx, pageCountQuery, p.From, p.To).Scan(&there); err != nil {
		return p.unread(err)
	}
	if there == p.To-p.From+1 {
		return nil
	}
	if err := tx.QueryRow(ctx, missingQuery, p.From, p.To).Scan(&missing); err != nil {
		return p.unread(err)
	}
	return fmt.Errorf("event %d is missing in the log", missing)
}

// pages reads ranges of positions for a consumer.
type pages struct {
	consumer *Consumer
	types    []string // that the consumer wants; only their data counts against the limit in bytes
}

func (p pages) ready(ctx context.Context) error { return p.consumer.pace.keep(ctx) }

// query answers with one row always, so that every read tells how far the consumer has committed.
func (p pages) query(topic, consumer string) wsql.Query {
	return wsql.Query{
		Query: `with checkpoint as materialized (` + lockCheckpoint + `)
			select c.position, coalesce(last.position, c.position)
			from checkpoint c, lateral (
				select max(position) as position from (
					select position, sum(bytes) over (order by position) - bytes as bytes_before
					from (
						select position, case when type = any($5) then coalesce(octet_length(data), 0) else 0 end as bytes
						from events e where e.position > c.position
						order by position limit $3
					) sizes
				) page where bytes_before < $4
			) last`,
		Args: []any{consumer, topic, pageEvents, readBytes, p.types},
	}
}

func (p pages) scan(row wsql.Scanner) (int64, wsql.Row, error) {
	var committed, to int64
	if err := row.Scan(&committed, &to); err != nil {
		return 0, wsql.Row{}, err
	}
	p.consumer.observe(eventstore.Position(committed))
	if to == committed {
		return 0, wsql.Row{}, sql.ErrNoRows
	}
	p.consumer.pace.read(to - committed)
	from := committed + 1
	payload, err := json.Marshal(Page{From: eventstore.Position(from), To: eventstore.Position(to), Types: p.types})
	if err != nil {
		return 0, wsql.Row{}, err
	}
	return from, wsql.Row{Offset: to, Msg: message.NewMessage(fmt.Sprintf("%d-%d", from, to), payload)}, nil
}

// hold pauses the consumer when reading again cannot help.
func (p pages) hold(ctx context.Context, cause error) bool {
	if Passing(cause) {
		return false
	}
	p.consumer.pause(ctx, cause)
	return true
}

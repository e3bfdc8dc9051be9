package postgres

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/voltrun/voltrun/eventstore"
)

// A batch ends at whichever of these comes first. It keeps a flood from building a statement that takes seconds, and
// so from delaying everybody behind it.
const (
	maxBatchAppends = 1000
	maxBatchEvents  = 10_000
	maxBatchBytes   = 8 << 20
)

// batch is the group of appends that one statement commits. Each stream stands in it at most once, so that every
// append is judged by the version that the one before it left.
type batch struct {
	requests []*request
	streams  map[uuid.UUID]bool
	events   int
	bytes    int
}

func newBatch() *batch { return &batch{streams: map[uuid.UUID]bool{}} }

func (b *batch) full() bool {
	return len(b.requests) >= maxBatchAppends || b.events >= maxBatchEvents || b.bytes >= maxBatchBytes
}

// touches tells whether one of the request's streams is in the batch already.
func (b *batch) touches(r *request) bool {
	for _, w := range r.writes {
		if b.streams[w.StreamID] {
			return true
		}
	}
	return false
}

// block keeps later requests for the same streams out of the batch, so that a deferred one stays ahead of them.
func (b *batch) block(r *request) {
	for _, w := range r.writes {
		b.streams[w.StreamID] = true
	}
}

func (b *batch) add(r *request) {
	b.requests = append(b.requests, r)
	b.block(r)
	for _, w := range r.writes {
		b.events += len(w.Events)
		for _, e := range w.Events {
			b.bytes += len(e.Data)
		}
	}
}

// answer gives every request of the batch the same answer.
func (b *batch) answer(position eventstore.Position, err error) {
	for _, r := range b.requests {
		r.answer(position, err)
	}
}

// columns are a batch's writes and events as the arrays that append.sql takes.
type columns struct {
	append, expected, count []int32
	stream                  []pgtype.UUID

	write, place                             []int32
	id, account, actor, correlation, causing []pgtype.UUID
	kind, actorKind                          []string
	actorPrefix                              []pgtype.Text
	schema                                   []int16
	commitment, headers, data                [][]byte
}

func (b *batch) columns() (*columns, error) {
	c := &columns{}
	for i, r := range b.requests {
		for _, w := range r.writes {
			c.append = append(c.append, int32(i))
			c.stream = append(c.stream, pgUUID(w.StreamID))
			c.expected = append(c.expected, int32(w.Expected))
			c.count = append(c.count, int32(len(w.Events)))
			if err := c.addEvents(w.Events); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

func (c *columns) addEvents(events []eventstore.NewEvent) error {
	for place := range events {
		e := &events[place]
		headers, err := encodeHeaders(e.Headers)
		if err != nil {
			return err
		}
		c.write = append(c.write, int32(len(c.append)))
		c.place = append(c.place, int32(place+1))
		c.id = append(c.id, pgUUID(e.ID))
		c.kind = append(c.kind, e.Type)
		c.schema = append(c.schema, int16(e.SchemaVersion))
		c.account = append(c.account, pgUUID(e.AccountID))
		c.actorKind = append(c.actorKind, string(e.Actor.Kind))
		c.actor = append(c.actor, pgUUID(e.Actor.ID))
		c.actorPrefix = append(c.actorPrefix, pgtype.Text{String: e.Actor.Prefix, Valid: e.Actor.Prefix != ""})
		c.correlation = append(c.correlation, pgUUID(e.CorrelationID))
		c.causing = append(c.causing, pgUUID(e.CausationID))
		c.commitment = append(c.commitment, e.Commitment[:])
		c.headers = append(c.headers, headers)
		c.data = append(c.data, e.Data)
	}
	return nil
}

func (c *columns) args() []any {
	return []any{
		c.append, c.stream, c.expected, c.count,
		c.write, c.place, c.id, c.kind, c.schema, c.account, c.actorKind, c.actor, c.actorPrefix,
		c.correlation, c.causing, c.commitment, c.headers, c.data,
	}
}

// encodeHeaders keeps the column null for the many events that have no headers.
func encodeHeaders(headers map[string]string) ([]byte, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(headers)
	if err != nil {
		return nil, fmt.Errorf("encode the headers of an event: %w", err)
	}
	return data, nil
}

// pgUUID stores the nil UUID as null.
func pgUUID(id uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: id != uuid.Nil} }

package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// EventColumns are the columns of the events table in the order in which ScanEvent and ParseEvent read them.
const EventColumns = `position, stream_id, version, recorded_at, id, type, schema_version, account_id, actor_kind, actor_id,
	actor_prefix, correlation_id, causation_id, commitment, headers, data`

// ScanEvent reads one row of EventColumns. It is a pgx.RowToFunc.
func ScanEvent(row pgx.CollectableRow) (eventstore.Event, error) {
	var e eventstore.Event
	var account, actor, correlation, causation pgtype.UUID
	var stream, id pgtype.UUID
	var prefix pgtype.Text
	var headers, commitment []byte
	err := row.Scan(&e.Position, &stream, &e.Version, &e.RecordedAt, &id, &e.Type, &e.SchemaVersion, &account,
		&e.Actor.Kind, &actor, &prefix, &correlation, &causation, &commitment, &headers, &e.Data)
	if err != nil {
		return e, fmt.Errorf("read an event's row: %w", err)
	}
	e.StreamID, e.ID = stream.Bytes, id.Bytes
	e.AccountID, e.Actor.ID, e.CorrelationID, e.CausationID = account.Bytes, actor.Bytes, correlation.Bytes, causation.Bytes
	e.Actor.Prefix = prefix.String
	copy(e.Commitment[:], commitment)
	e.RecordedAt = e.RecordedAt.UTC()
	return e, decodeHeaders(&e, headers)
}

// ParseEvent reads the raw values of EventColumns in the binary format, a third as long as ScanEvent takes. The event
// keeps none of their memory.
func ParseEvent(values [][]byte) (eventstore.Event, error) {
	r := rawRow{values: values}
	e := eventstore.Event{
		Position: eventstore.Position(r.integer()), StreamID: r.uuid(), Version: r.integer(), RecordedAt: r.time(),
		NewEvent: eventstore.NewEvent{
			ID: r.uuid(), Type: r.name(), SchemaVersion: r.integer(),
			Metadata: eventstore.Metadata{
				AccountID:     r.uuid(),
				Actor:         domain.Actor{Kind: domain.ActorKind(r.name()), ID: r.uuid(), Prefix: string(r.next())},
				CorrelationID: r.uuid(), CausationID: r.uuid(),
			},
		},
	}
	copy(e.Commitment[:], r.next())
	headers := r.next()
	e.Data = bytes.Clone(r.next())
	if r.broken {
		return e, fmt.Errorf("read an event's row: %d columns are not those of an event in the binary format", len(values))
	}
	return e, decodeHeaders(&e, headers)
}

func decodeHeaders(e *eventstore.Event, headers []byte) error {
	if headers == nil {
		return nil
	}
	if err := json.Unmarshal(headers, &e.Headers); err != nil {
		return fmt.Errorf("read the headers of event %d: %w", e.Position, err)
	}
	return nil
}

// rawRow reads the values of a row one after the other, in the binary format of Postgres.
type rawRow struct {
	values [][]byte
	broken bool // a value was not what it should be
}

// next returns the next value, nil for a null.
func (r *rawRow) next() []byte {
	if len(r.values) == 0 {
		r.broken = true
		return nil
	}
	value := r.values[0]
	r.values = r.values[1:]
	return value
}

func (r *rawRow) integer() int {
	switch value := r.next(); len(value) {
	case 2:
		return int(int16(binary.BigEndian.Uint16(value)))
	case 4:
		return int(int32(binary.BigEndian.Uint32(value)))
	case 8:
		return int(binary.BigEndian.Uint64(value))
	default:
		r.broken = true
		return 0
	}
}

func (r *rawRow) boolean() bool {
	value := r.next()
	return len(value) == 1 && value[0] == 1
}

// uuid returns the nil UUID for a null.
func (r *rawRow) uuid() (id uuid.UUID) {
	if value := r.next(); value != nil && copy(id[:], value) != len(value) {
		r.broken = true
	}
	return id
}

// epoch is the moment from which Postgres counts microseconds.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *rawRow) time() time.Time {
	return time.UnixMicro(epoch.UnixMicro() + int64(r.integer())).UTC()
}

// name returns a text of which there are few, and one string for all of its kind.
func (r *rawRow) name() string {
	value := r.next()
	if name, ok := names[string(value)]; ok {
		return name
	}
	return string(value)
}

// names are the texts that stand in most rows.
var names = func() map[string]string {
	names := map[string]string{}
	for _, kind := range []domain.ActorKind{domain.ActorUser, domain.ActorAPIKey, domain.ActorWorker, domain.ActorSystem} {
		names[string(kind)] = string(kind)
	}
	for _, e := range domain.Events() {
		names[e.EventType()] = e.EventType()
	}
	return names
}()

package eventstore

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

//go:generate go run ../docs/generate/events.go

// Upcaster turns the JSON of one schema version of an event into the next one's.
type Upcaster func(data json.RawMessage) (json.RawMessage, error)

// Codec turns the domain's events into stored ones and back. An event's schema version is one more than the number of
// its upcasters: whoever changes an event's JSON form adds the upcaster that lifts the old form into the new one, and a
// golden file of the old form stays in testdata for ever.
type Codec struct {
	types     map[string]reflect.Type
	upcasters map[string][]Upcaster
}

// NewCodec makes the codec for these event types. upcasters[t][i] lifts type t from schema version i+1 to i+2.
func NewCodec(events []domain.Event, upcasters map[string][]Upcaster) *Codec {
	c := &Codec{types: make(map[string]reflect.Type, len(events)), upcasters: upcasters}
	for _, e := range events {
		c.types[e.EventType()] = reflect.TypeOf(e)
	}
	return c
}

// DomainCodec is the codec for every event of the domain.
func DomainCodec() *Codec { return NewCodec(domain.Events(), nil) }

// SchemaVersion is the version in which events of that type are written now.
func (c *Codec) SchemaVersion(eventType string) int { return len(c.upcasters[eventType]) + 1 }

// Encode makes a storable event of a domain event.
func (c *Codec) Encode(id uuid.UUID, e domain.Event, meta Metadata) (NewEvent, error) {
	if _, ok := c.types[e.EventType()]; !ok {
		return NewEvent{}, fmt.Errorf("event type %q is not registered with the codec", e.EventType())
	}
	data, err := json.Marshal(e)
	if err != nil {
		return NewEvent{}, fmt.Errorf("encode %s: %w", e.EventType(), err)
	}
	return NewEvent{ID: id, Type: e.EventType(), SchemaVersion: c.SchemaVersion(e.EventType()), Data: data, Metadata: meta}, nil
}

// Decode returns the domain event that e stores, lifted to today's form.
func (c *Codec) Decode(e NewEvent) (domain.Event, error) {
	t, ok := c.types[e.Type]
	if !ok {
		return nil, fmt.Errorf("event type %q is not known to this version of VoltRun", e.Type)
	}
	current := c.SchemaVersion(e.Type)
	if e.SchemaVersion < 1 || e.SchemaVersion > current {
		return nil, fmt.Errorf("%s has schema version %d, but this version of VoltRun reads 1 to %d", e.Type, e.SchemaVersion, current)
	}
	data := json.RawMessage(e.Data)
	for v := e.SchemaVersion; v < current; v++ {
		lifted, err := c.upcasters[e.Type][v-1](data)
		if err != nil {
			return nil, fmt.Errorf("upcast %s from schema version %d: %w", e.Type, v, err)
		}
		data = lifted
	}
	value := reflect.New(t)
	if err := json.Unmarshal(data, value.Interface()); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	return value.Elem().Interface().(domain.Event), nil
}

package eventstore

import (
	"context"
	"encoding/json"
	"errors"
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
//
// What the events of an account say is sealed under its key, except for domain.Impersonal ones.
type Codec struct {
	keys      *KeyRing
	types     map[string]reflect.Type
	upcasters map[string][]Upcaster
}

// NewCodec makes the codec for these event types, over the keys of the accounts. upcasters[t][i] lifts type t from schema version i+1 to i+2.
func NewCodec(keys *KeyRing, events []domain.Event, upcasters map[string][]Upcaster) *Codec {
	c := &Codec{keys: keys, types: make(map[string]reflect.Type, len(events)), upcasters: upcasters}
	for _, e := range events {
		c.types[e.EventType()] = reflect.TypeOf(e)
	}
	return c
}

// DomainCodec is the codec for every event of the domain.
func DomainCodec(keys *KeyRing) *Codec { return NewCodec(keys, domain.Events(), nil) }

// Keys are the keys under which the events of accounts are sealed.
func (c *Codec) Keys() *KeyRing { return c.keys }

// SchemaVersion is the version in which events of that type are written now.
func (c *Codec) SchemaVersion(eventType string) int { return len(c.upcasters[eventType]) + 1 }

// Encode makes a storable event of a domain event. It answers ErrErased when the event's account was erased.
func (c *Codec) Encode(ctx context.Context, id uuid.UUID, e domain.Event, meta Metadata) (NewEvent, error) {
	if _, ok := c.types[e.EventType()]; !ok {
		return NewEvent{}, fmt.Errorf("event type %q is not registered with the codec", e.EventType())
	}
	content, err := json.Marshal(e)
	if err != nil {
		return NewEvent{}, fmt.Errorf("encode %s: %w", e.EventType(), err)
	}
	encoded := NewEvent{ID: id, Type: e.EventType(), SchemaVersion: c.SchemaVersion(e.EventType()), Metadata: meta}
	if _, impersonal := e.(domain.Impersonal); impersonal || meta.AccountID == uuid.Nil {
		encoded.Data, encoded.Commitment = Plain(content)
		return encoded, nil
	}
	disclosure := newDisclosure(content)
	encoded.Commitment = Commit(disclosure)
	encoded.Data, err = c.keys.seal(ctx, encoded, disclosure)
	return encoded, err
}

// Disclose returns an event's disclosure, the bytes that its commitment is to, or ErrErased or ErrArchived.
func (c *Codec) Disclose(ctx context.Context, e NewEvent) ([]byte, error) {
	if e.Data == nil {
		return nil, ErrArchived
	}
	if disclosure, ok := PlainDisclosure(e.Data); ok {
		return disclosure, nil
	}
	if len(e.Data) == 0 || e.Data[0] != formSealed {
		return nil, ErrUnknownForm
	}
	return c.keys.open(ctx, e)
}

// Decode returns the domain event that e stores, lifted to today's form; a domain.Redacted when its account was erased,
// and a domain.Archived when its payload is in the archive.
func (c *Codec) Decode(ctx context.Context, e NewEvent) (domain.Event, error) {
	disclosure, err := c.Disclose(ctx, e)
	switch {
	case errors.Is(err, ErrErased):
		return domain.Redacted{Type: e.Type}, nil
	case errors.Is(err, ErrArchived):
		return domain.Archived{Type: e.Type}, nil
	case err != nil:
		return nil, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	return c.DecodeContent(e.Type, e.SchemaVersion, Content(disclosure))
}

// DecodeContent returns the domain event of that type that has this content in that schema version.
func (c *Codec) DecodeContent(eventType string, schemaVersion int, content []byte) (domain.Event, error) {
	t, ok := c.types[eventType]
	if !ok {
		return nil, fmt.Errorf("event type %q is not known to this version of VoltRun", eventType)
	}
	current := c.SchemaVersion(eventType)
	if schemaVersion < 1 || schemaVersion > current {
		return nil, fmt.Errorf("%s has schema version %d, but this version of VoltRun reads 1 to %d", eventType, schemaVersion, current)
	}
	data := json.RawMessage(content)
	for v := schemaVersion; v < current; v++ {
		lifted, err := c.upcasters[eventType][v-1](data)
		if err != nil {
			return nil, fmt.Errorf("upcast %s from schema version %d: %w", eventType, v, err)
		}
		data = lifted
	}
	value := reflect.New(t)
	if err := json.Unmarshal(data, value.Interface()); err != nil {
		return nil, fmt.Errorf("decode %s: %w", eventType, err)
	}
	return value.Elem().Interface().(domain.Event), nil
}

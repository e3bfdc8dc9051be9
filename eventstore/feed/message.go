package feed

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// The metadata of a message that is an event, beside the event's own headers. What is nil in the event is absent.
const (
	KeyPosition      = "position"
	KeyStreamID      = "stream_id"
	KeyVersion       = "version"
	KeyRecordedAt    = "recorded_at"
	KeyType          = "type"
	KeySchemaVersion = "schema_version"
	KeyAccountID     = "account_id"
	KeyActorKind     = "actor_kind"
	KeyActorID       = "actor_id"
	KeyCorrelationID = "correlation_id" // also the key of Watermill's correlation middleware
	KeyCausationID   = "causation_id"
	KeyActorPrefix   = "actor_prefix"
	KeyCommitment    = "commitment" // to the payload, in hex
	KeySalt          = "salt"       // of a plain payload, in hex; absent when the payload is sealed and so is the message's
)

// headerUUID keeps a message's UUID that is none, and so cannot be an event's id.
const headerUUID = "message_uuid"

// namespace is where the ids of streams and events are derived that have only a name.
var namespace = uuid.MustParse("7f6f1d1c-5a0e-5b0b-9d57-2f0c6f3e8a41")

// newMessage makes the message of an event. A payload that is sealed stays sealed.
func newMessage(e eventstore.Event) *message.Message {
	payload := e.Data
	disclosure, plain := eventstore.PlainDisclosure(e.Data)
	if plain {
		payload = eventstore.Content(disclosure)
	}
	msg := message.NewMessage(e.ID.String(), payload)
	for key, value := range e.Headers {
		msg.Metadata[key] = value
	}
	if original, ok := e.Headers[headerUUID]; ok {
		msg.UUID = original
		delete(msg.Metadata, headerUUID)
	}
	msg.Metadata[KeyPosition] = strconv.FormatInt(int64(e.Position), 10)
	msg.Metadata[KeyStreamID] = e.StreamID.String()
	msg.Metadata[KeyVersion] = strconv.Itoa(e.Version)
	msg.Metadata[KeyRecordedAt] = e.RecordedAt.Format(time.RFC3339Nano)
	msg.Metadata[KeyType] = e.Type
	msg.Metadata[KeySchemaVersion] = strconv.Itoa(e.SchemaVersion)
	msg.Metadata[KeyActorKind] = string(e.Actor.Kind)
	msg.Metadata[KeyCommitment] = hex.EncodeToString(e.Commitment[:])
	if plain {
		msg.Metadata[KeySalt] = hex.EncodeToString(eventstore.Salt(disclosure))
	}
	if e.Actor.Prefix != "" {
		msg.Metadata[KeyActorPrefix] = e.Actor.Prefix
	}
	setID(msg, KeyAccountID, e.AccountID)
	setID(msg, KeyActorID, e.Actor.ID)
	setID(msg, KeyCorrelationID, e.CorrelationID)
	setID(msg, KeyCausationID, e.CausationID)
	return msg
}

func setID(msg *message.Message, key string, id uuid.UUID) {
	if id != uuid.Nil {
		msg.Metadata[key] = id.String()
	}
}

// Event returns the event that a message of Events stands for.
func Event(msg *message.Message) (eventstore.Event, error) {
	position, positionErr := strconv.ParseInt(msg.Metadata[KeyPosition], 10, 64)
	version, versionErr := strconv.Atoi(msg.Metadata[KeyVersion])
	schema, schemaErr := strconv.Atoi(msg.Metadata[KeySchemaVersion])
	recordedAt, timeErr := time.Parse(time.RFC3339Nano, msg.Metadata[KeyRecordedAt])
	streamID, streamErr := uuid.Parse(msg.Metadata[KeyStreamID])
	commitment, commitmentErr := hex.DecodeString(msg.Metadata[KeyCommitment])
	if err := errors.Join(positionErr, versionErr, schemaErr, timeErr, streamErr, commitmentErr); err != nil {
		return eventstore.Event{}, fmt.Errorf("message %s is not an event of the log: %w", msg.UUID, err)
	}
	e := newEvent(msg.Metadata[KeyType], msg)
	e.SchemaVersion = schema
	copy(e.Commitment[:], commitment)
	e.Data = msg.Payload
	if salt, err := hex.DecodeString(msg.Metadata[KeySalt]); err == nil && len(salt) > 0 {
		e.Data = eventstore.PlainOf(append(salt, msg.Payload...))
	}
	return eventstore.Event{
		Position: eventstore.Position(position), StreamID: streamID, Version: version, RecordedAt: recordedAt, NewEvent: e,
	}, nil
}

// newEvent makes the event that stores a message. Metadata that has a column of its own goes there, the rest becomes
// headers, except for what the log says of every event anew.
func newEvent(eventType string, msg *message.Message) eventstore.NewEvent {
	headers := make(map[string]string, len(msg.Metadata))
	for key, value := range msg.Metadata {
		headers[key] = value
	}
	for _, key := range []string{KeyPosition, KeyStreamID, KeyVersion, KeyRecordedAt, KeyType, KeySchemaVersion, KeyCommitment, KeySalt} {
		delete(headers, key)
	}
	e := eventstore.NewEvent{ID: eventID(msg, headers), Type: eventType, SchemaVersion: 1}
	e.Data, e.Commitment = eventstore.Plain(msg.Payload)
	e.Actor.Kind = domain.ActorSystem
	if kind, ok := headers[KeyActorKind]; ok {
		e.Actor.Kind = domain.ActorKind(kind)
		delete(headers, KeyActorKind)
	}
	if prefix, ok := headers[KeyActorPrefix]; ok {
		e.Actor.Prefix = prefix
		delete(headers, KeyActorPrefix)
	}
	e.AccountID = takeID(headers, KeyAccountID)
	e.Actor.ID = takeID(headers, KeyActorID)
	e.CorrelationID = takeID(headers, KeyCorrelationID)
	e.CausationID = takeID(headers, KeyCausationID)
	if len(headers) > 0 {
		e.Headers = headers
	}
	return e
}

// eventID is the message's UUID. Watermill allows any text there; what is no UUID in its usual form is kept in a header
// and stands for an id that is derived from it.
func eventID(msg *message.Message, headers map[string]string) uuid.UUID {
	id, err := uuid.Parse(msg.UUID)
	if err == nil && id.String() == msg.UUID {
		return id
	}
	headers[headerUUID] = msg.UUID
	return uuid.NewSHA1(namespace, []byte(msg.UUID))
}

// takeID moves an id out of the headers. One that is no UUID stays there.
func takeID(headers map[string]string, key string) uuid.UUID {
	id, err := uuid.Parse(headers[key])
	if err != nil || id.String() != headers[key] {
		return uuid.Nil
	}
	delete(headers, key)
	return id
}

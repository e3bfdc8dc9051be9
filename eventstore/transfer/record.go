package transfer

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Format is what the first line of a file says it is.
const Format = "voltrun export v1"

// What a file can be an export of.
const (
	wholeLog   = "log"
	oneAccount = "account"
)

// record is a line of a file: exactly one of these.
type record struct {
	Header *Header `json:"header,omitempty"` // first
	Secret *secret `json:"secret,omitempty"`
	Event  *event  `json:"event,omitempty"`
	Row    *row    `json:"row,omitempty"`
	End    *end    `json:"end,omitempty"` // last
}

// Header says what a file is.
type Header struct {
	Format     string              `json:"format"`
	Of         string              `json:"of"`
	ExportedAt time.Time           `json:"exported_at"`
	Source     string              `json:"source,omitempty"` // the log's name
	Head       eventstore.Position `json:"head"`             // of the log when it was exported
	HeadAt     time.Time           `json:"head_recorded_at"`
	Account    uuid.UUID           `json:"account,omitzero"`
	KeyID      string              `json:"key_id"`                // which transfer key the file was made with
	PublicKeys []string            `json:"public_keys,omitempty"` // that the log's heads are signed with
}

// secret is a row of the vault, sealed under the transfer key. A data key is out of its wrapping in there.
type secret struct {
	Owner  uuid.UUID `json:"owner"`
	Name   string    `json:"name"`
	Sealed []byte    `json:"sealed"`
}

// row is a row of a table beside the events.
type row struct {
	Table  string          `json:"table"`
	Values json.RawMessage `json:"values"`
}

// end proves that everything before it is there and as it was.
type end struct {
	Records int            `json:"records"`
	SHA256  eventstore.Hex `json:"sha256"` // of all lines before
	MAC     eventstore.Hex `json:"mac"`    // of that, under the transfer key
}

// event is an event as it stands in the log.
type event struct {
	Position      eventstore.Position `json:"position"`
	StreamID      uuid.UUID           `json:"stream_id"`
	Version       int                 `json:"version"`
	RecordedAt    time.Time           `json:"recorded_at"`
	ID            uuid.UUID           `json:"id"`
	Type          string              `json:"type"`
	SchemaVersion int                 `json:"schema_version"`
	AccountID     uuid.UUID           `json:"account_id,omitzero"`
	ActorKind     domain.ActorKind    `json:"actor_kind"`
	ActorID       uuid.UUID           `json:"actor_id,omitzero"`
	ActorPrefix   string              `json:"actor_prefix,omitempty"`
	CorrelationID uuid.UUID           `json:"correlation_id,omitzero"`
	CausationID   uuid.UUID           `json:"causation_id,omitzero"`
	Headers       map[string]string   `json:"headers,omitempty"`
	Commitment    eventstore.Hex      `json:"commitment"`

	Data       []byte `json:"data,omitempty"`       // of a whole log: the payload as it stands there, null in the archive
	Disclosure []byte `json:"disclosure,omitempty"` // of an account: sealed under the transfer key

	Leaf eventstore.Hex `json:"leaf,omitempty"` // of an account: the hash of the event's leaf in the log's proof, as far as it had one
}

func eventOf(e eventstore.Event) *event {
	return &event{
		Position: e.Position, StreamID: e.StreamID, Version: e.Version, RecordedAt: e.RecordedAt, ID: e.ID, Type: e.Type,
		SchemaVersion: e.SchemaVersion, AccountID: e.AccountID, ActorKind: e.Actor.Kind, ActorID: e.Actor.ID, ActorPrefix: e.Actor.Prefix,
		CorrelationID: e.CorrelationID, CausationID: e.CausationID, Headers: e.Headers, Commitment: e.Commitment[:], Data: e.Data,
	}
}

// stored is the event as the log takes it.
func (e *event) stored() eventstore.Event {
	stored := eventstore.Event{Position: e.Position, StreamID: e.StreamID, Version: e.Version, RecordedAt: e.RecordedAt}
	stored.NewEvent = eventstore.NewEvent{
		ID: e.ID, Type: e.Type, SchemaVersion: e.SchemaVersion, Data: e.Data,
		Metadata: eventstore.Metadata{
			AccountID: e.AccountID, Actor: domain.Actor{Kind: e.ActorKind, ID: e.ActorID, Prefix: e.ActorPrefix},
			CorrelationID: e.CorrelationID, CausationID: e.CausationID, Headers: e.Headers,
		},
	}
	copy(stored.Commitment[:], e.Commitment)
	return stored
}

package proof

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// Moved tells whether the log says of an event that its payload was moved to the archive.
type Moved func(ctx context.Context, position eventstore.Position, eventType string, account uuid.UUID) (bool, error)

// payloads opens what events say.
type payloads struct {
	codec   *eventstore.Codec
	archive eventstore.Archive // nil when there is none at hand
}

// disclose returns an event's disclosure, or eventstore.ErrErased or ErrArchived.
func (p payloads) disclose(ctx context.Context, r *row) ([]byte, error) {
	event := eventstore.NewEvent{
		ID: r.id.Bytes, Type: r.kind, Data: r.data, Metadata: eventstore.Metadata{AccountID: r.account.Bytes},
	}
	if event.Data == nil && p.archive != nil {
		data, err := p.archive.Payload(ctx, eventstore.Position(r.position))
		if err != nil {
			return nil, err
		}
		event.Data = data
	}
	return p.codec.Disclose(ctx, event)
}

package eventstore

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/voltrun/voltrun/domain"
)

// The headers of an event that was imported from another log: where it stood there, when it was recorded, and the hash of
// its leaf in that log's proof. Who imports it further leaves them as they are.
const (
	HeaderPosition   = "voltrun.position"
	HeaderRecordedAt = "voltrun.recorded_at" // RFC 3339
	HeaderLeaf       = "voltrun.leaf"        // hex; absent when the log had no proof
)

// HappenedAt is when an event was recorded first. That is before RecordedAt for one that was imported from another log.
func (e Event) HappenedAt() time.Time {
	if text, imported := e.Headers[HeaderRecordedAt]; imported {
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return at.UTC()
		}
	}
	return e.RecordedAt
}

// DataKey is the key that an account's payloads are sealed with, out of its wrapping.
type DataKey [chacha20poly1305.KeySize]byte

// UnwrapDataKey returns the data key in an account's secret of the name DataKeySecret.
func (c *Codec) UnwrapDataKey(account uuid.UUID, wrapped []byte) (DataKey, error) {
	return c.keys.unwrapKey(account, wrapped)
}

// WrapDataKey makes the secret of an account from its data key.
func (c *Codec) WrapDataKey(account uuid.UUID, key DataKey) []byte { return c.keys.wrap(account, key) }

// Open returns the disclosure of an event whose payload is plain or sealed with this key.
func (k DataKey) Open(e NewEvent) ([]byte, error) {
	if disclosure, ok := PlainDisclosure(e.Data); ok {
		return disclosure, nil
	}
	if len(e.Data) == 0 || e.Data[0] != formSealed {
		return nil, ErrUnknownForm
	}
	return openSealed(NewBox(k), e)
}

// Reseal gives an event the payload with this disclosure: sealed for its account, or plain when it is nobody's or holds
// nothing but ids. Its commitment is the same as wherever the disclosure comes from. It answers ErrErased when the account
// was erased here.
func (c *Codec) Reseal(ctx context.Context, e NewEvent, disclosure []byte) (_ NewEvent, err error) {
	e.Commitment = Commit(disclosure)
	if e.AccountID == uuid.Nil || slices.Contains(domain.ImpersonalTypes(), e.Type) {
		e.Data = PlainOf(disclosure)
		return e, nil
	}
	e.Data, err = c.keys.seal(ctx, e, disclosure)
	return e, err
}

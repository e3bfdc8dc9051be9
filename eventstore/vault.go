package eventstore

import (
	"context"
	"errors"

	"github.com/google/uuid"
)

// Vault keeps what must never stand in the log because it has to be forgettable: password hashes and data keys. It is
// the only durable state beside the log; what it holds is overwritten and deleted in place.
type Vault interface {
	// Put stores a secret of an owner under a name, replacing what was there.
	Put(ctx context.Context, owner uuid.UUID, name string, secret []byte) error
	// PutNew stores a secret unless there is one of that name, and returns the one that is there then. It stores nothing
	// for an owner that was erased, and answers ErrNoSecret.
	PutNew(ctx context.Context, owner uuid.UUID, name string, secret []byte) (kept []byte, err error)
	// Get returns a secret, or ErrNoSecret.
	Get(ctx context.Context, owner uuid.UUID, name string) ([]byte, error)
	// Forget deletes every secret of an owner, and the answers that concern it (see Answers).
	Forget(ctx context.Context, owner uuid.UUID) error
	// Erase is Forget for ever: PutNew stores nothing for that owner from now on.
	Erase(ctx context.Context, owner uuid.UUID) error
	// Erased tells whether an owner was erased.
	Erased(ctx context.Context, owner uuid.UUID) (bool, error)
}

// ErasedMark is the name of the secret, an empty one, that stays of an owner who was erased.
const ErasedMark = "erased"

// ErrNoSecret answers for a secret that was never there or was forgotten.
var ErrNoSecret = errors.New("the vault has no such secret")

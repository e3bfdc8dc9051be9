package commands

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// KeyPrefix is how every API key begins.
const KeyPrefix = "vr_"

// keyShown is how many characters of a key stay visible after its creation.
const keyShown = 12

// PrefixOfKey returns the part of an API key that is no secret.
func PrefixOfKey(key string) string { return key[:min(keyShown, len(key))] }

// HashKey is the form in which API keys are stored and looked up.
func HashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// NewKey is an API key that was just made. Key is shown this once.
type NewKey struct {
	ID       uuid.UUID
	Key      string
	Prefix   string
	Position eventstore.Position
}

// CreateKeyHandler makes API keys.
type CreateKeyHandler struct{ journal *journal }

// Handle makes an API key of 32 random bytes.
func (h CreateKeyHandler) Handle(ctx context.Context, origin Origin, accountID uuid.UUID, name string, expiresAt *time.Time) (NewKey, error) {
	secret := h.journal.newSecret()
	key := NewKey{ID: h.journal.newID(), Key: KeyPrefix + hex.EncodeToString(secret[:])}
	key.Prefix = PrefixOfKey(key.Key)
	cmd := domain.CreateKey{
		KeyID: key.ID, AccountID: accountID, Name: name, Prefix: key.Prefix, Hash: HashKey(key.Key), ExpiresAt: expiresAt, Now: h.journal.now(),
	}
	var err error
	key.Position, err = decide(ctx, h.journal, origin.metadata(accountID), key.ID, cmd.Decide)
	return key, err
}

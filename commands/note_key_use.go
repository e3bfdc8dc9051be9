package commands

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// KeyUse is one use of an API key.
type KeyUse struct {
	AccountID uuid.UUID // the key's owner
	KeyID     uuid.UUID
	Prefix    string    // the part of the key that is no secret
	RequestID uuid.UUID // the request that came with the key
	At        time.Time
}

// NoteKeyUseHandler records when API keys were used.
type NoteKeyUseHandler struct{ journal *journal }

// Handle records a use. There is nothing to decide, and so nothing is read, however often the key was used before. The
// caller sees to it that this happens seldom.
func (h NoteKeyUseHandler) Handle(ctx context.Context, use KeyUse) error {
	origin := Origin{Actor: domain.Actor{Kind: domain.ActorAPIKey, ID: use.KeyID, Prefix: use.Prefix}, RequestID: use.RequestID}
	used := domain.KeyUsed{KeyID: use.KeyID, At: use.At.UTC()}
	write, err := h.journal.write(ctx, domain.KeyUseStream(use.KeyID), eventstore.Any, origin.metadata(use.AccountID), used)
	if err != nil {
		return err
	}
	_, err = h.journal.store.Append(ctx, write)
	return err
}

package commands

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// NoteKeyUseHandler records when API keys were used.
type NoteKeyUseHandler struct{ journal *journal }

// Handle records that a key was used at that time. The caller sees to it that this happens seldom.
func (h NoteKeyUseHandler) Handle(ctx context.Context, accountID, keyID uuid.UUID, at time.Time) error {
	origin := Origin{Actor: domain.Actor{Kind: domain.ActorAPIKey, ID: keyID}}
	_, err := decide(ctx, h.journal, origin.metadata(accountID), keyID, domain.NoteKeyUse{At: at.UTC()}.Decide)
	return err
}

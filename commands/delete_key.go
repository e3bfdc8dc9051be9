package commands

import (
	"context"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// DeleteKeyHandler ends API keys.
type DeleteKeyHandler struct{ journal *journal }

// Handle ends an API key for ever.
func (h DeleteKeyHandler) Handle(ctx context.Context, origin Origin, cmd domain.DeleteKey) (eventstore.Position, error) {
	return decide(ctx, h.journal, origin.metadata(cmd.AccountID), cmd.KeyID, cmd.Decide)
}

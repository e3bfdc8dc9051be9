package commands

import (
	"context"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// SetRetentionHandler sets how long the events of accounts stay in the database.
type SetRetentionHandler struct{ journal *journal }

// Handle sets an account's retention. The position is 0 when nothing changed.
func (h SetRetentionHandler) Handle(ctx context.Context, origin Origin, cmd domain.SetRetention) (eventstore.Position, error) {
	return decide(ctx, h.journal, origin.metadata(cmd.AccountID), cmd.AccountID, cmd.Decide)
}

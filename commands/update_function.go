package commands

import (
	"context"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// UpdateFunctionHandler changes functions.
type UpdateFunctionHandler struct{ journal *journal }

// Handle changes a function. The position is 0 when nothing changed.
func (h UpdateFunctionHandler) Handle(ctx context.Context, origin Origin, cmd domain.UpdateFunction) (eventstore.Position, error) {
	return decideOn(ctx, h.journal, origin.metadata(cmd.AccountID), cmd.FunctionID, h.journal.functions.history, cmd.Decide)
}

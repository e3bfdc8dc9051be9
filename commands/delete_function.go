package commands

import (
	"context"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// DeleteFunctionHandler ends functions.
type DeleteFunctionHandler struct{ journal *journal }

// Handle ends a function. What it ran, and what it still has to run, stays.
func (h DeleteFunctionHandler) Handle(ctx context.Context, origin Origin, cmd domain.DeleteFunction) (eventstore.Position, error) {
	return decideOn(ctx, h.journal, origin.metadata(cmd.AccountID), cmd.FunctionID, h.journal.functions.history, cmd.Decide)
}

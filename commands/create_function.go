package commands

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// CreateFunctionHandler makes functions.
type CreateFunctionHandler struct {
	journal  *journal
	runtimes []string
}

// Handle makes a function and returns its new id. It fills in the command's FunctionID and Available.
func (h CreateFunctionHandler) Handle(ctx context.Context, origin Origin, cmd domain.CreateFunction) (uuid.UUID, eventstore.Position, error) {
	cmd.FunctionID, cmd.Available = h.journal.newID(), h.runtimes
	position, err := decide(ctx, h.journal, origin.metadata(cmd.AccountID), cmd.FunctionID, cmd.Decide)
	return cmd.FunctionID, position, err
}

package commands

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// RequestExecutionHandler accepts executions.
type RequestExecutionHandler struct{ journal *journal }

// Handle accepts an execution and returns its new id. It fills in the command's ExecutionID and Function. When it
// returns without an error the execution is durable and will end.
func (h RequestExecutionHandler) Handle(ctx context.Context, origin Origin, cmd domain.RequestExecution) (uuid.UUID, eventstore.Position, error) {
	function, err := h.journal.functions.newest(ctx, h.journal, cmd.FunctionID)
	if err != nil {
		return uuid.Nil, 0, err
	}
	cmd.ExecutionID, cmd.Function = h.journal.newID(), function
	// The id is new, so there is no stream to load.
	events, err := cmd.Decide(domain.Execution{})
	if err != nil {
		return uuid.Nil, 0, err
	}
	write, err := h.journal.write(ctx, cmd.ExecutionID, eventstore.New, origin.metadata(cmd.AccountID), events...)
	if err != nil {
		return uuid.Nil, 0, err
	}
	position, err := h.journal.store.Append(ctx, write)
	return cmd.ExecutionID, position, err
}

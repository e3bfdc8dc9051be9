package commands

import (
	"context"
	"fmt"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// WaitingExecution is an accepted execution that nobody has claimed, with the function as it is now.
type WaitingExecution struct {
	domain.ExecutionRequested
	Function domain.Function
	Position eventstore.Position
}

// WaitingExecutions reads executions from their requests. What belongs to an account that was erased does not wait any more.
func (h *Handlers) WaitingExecutions(ctx context.Context, requests []eventstore.Event) ([]WaitingExecution, error) {
	var waiting []WaitingExecution
	for _, request := range requests {
		fact, err := h.journal.codec.Decode(ctx, request.NewEvent)
		if err != nil {
			return nil, fmt.Errorf("read the request for execution %s: %w", request.StreamID, err)
		}
		requested, readable := fact.(domain.ExecutionRequested)
		if !readable {
			continue
		}
		function, err := h.journal.functions.known(ctx, h.journal, requested.FunctionID)
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, WaitingExecution{requested, function.state, request.Position})
	}
	return waiting, nil
}

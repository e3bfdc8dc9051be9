package commands

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// AbandonExecutionHandler ends executions that nobody else will end.
type AbandonExecutionHandler struct{ journal *journal }

// Handle records the failure of an execution that the command's worker held and will not end, or that was never
// claimed. An execution that ended meanwhile, or whose account was erased, is left alone.
func (h AbandonExecutionHandler) Handle(ctx context.Context, executionID uuid.UUID, cmd domain.AbandonExecution) error {
	execution, err := load[domain.Execution](ctx, h.journal, executionID)
	if err != nil {
		return err
	}
	meta := execution.causes(domain.Actor{Kind: domain.ActorSystem})
	_, err = decide(ctx, h.journal, meta, executionID, cmd.Decide)
	if errors.Is(err, domain.ErrAccountErased) {
		return nil
	}
	return err
}

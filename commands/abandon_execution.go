package commands

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// AbandonExecutionHandler ends executions that nobody else will end.
type AbandonExecutionHandler struct{ journal *journal }

// Handle records the failure of an execution that the command's worker held and will not end, or that was never
// claimed. An execution that ended meanwhile is left alone.
func (h AbandonExecutionHandler) Handle(ctx context.Context, executionID uuid.UUID, cmd domain.AbandonExecution) error {
	execution, _, err := load[domain.Execution](ctx, h.journal, executionID)
	if err != nil {
		return err
	}
	origin := Origin{Actor: domain.Actor{Kind: domain.ActorSystem}, RequestID: executionID}
	_, err = decide(ctx, h.journal, origin.metadata(execution.AccountID), executionID, cmd.Decide)
	return err
}

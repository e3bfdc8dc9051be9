package projections

import (
	"context"

	"github.com/google/uuid"
)

// WithLogs returns an execution of an account as Executions.Get does, with its log also where that was moved to the archive.
func (h *History) WithLogs(ctx context.Context, accountID, id uuid.UUID) (Execution, error) {
	now, err := h.now(ctx)
	if err != nil {
		return Execution{}, err
	}
	execution, err := now.Executions.Get(ctx, accountID, id)
	execution.LogsArchived = true
	return execution, err
}

// Logs returns an execution's log as Logs.Get does, also where it was moved to the archive.
func (h *History) Logs(ctx context.Context, accountID, executionID uuid.UUID) (ExecutionLogs, error) {
	now, err := h.now(ctx)
	if err != nil {
		return ExecutionLogs{}, err
	}
	logs, err := now.Logs.Get(ctx, accountID, executionID)
	logs.Archived = true
	return logs, err
}

// now are the queries over the log as it is.
func (h *History) now(ctx context.Context) (*Queries, error) {
	head, err := h.head(ctx)
	return (&past{history: h, at: head}).queries(), err
}

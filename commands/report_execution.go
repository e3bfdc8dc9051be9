package commands

import (
	"context"

	"github.com/voltrun/voltrun/domain"
)

// ReportExecutionHandler records what workers say of the executions that they hold.
type ReportExecutionHandler struct{ journal *journal }

// Handle records lines and, when end is not nil, how the execution ended. It answers domain.ErrNotRunning when the
// execution is not the worker's any more: nothing was written, and nothing that the worker says will be.
func (h ReportExecutionHandler) Handle(ctx context.Context, attempt *domain.Attempt, lines []domain.ExecutionLogLine, end domain.Event) error {
	workerID := attempt.Execution.WorkerID
	events, err := domain.ReportExecution{WorkerID: workerID, Lines: lines, End: end}.Decide(attempt.Execution)
	if err != nil || len(events) == 0 {
		return err
	}
	return h.journal.advance(ctx, attempt, workerID, domain.ErrNotRunning, events...)
}

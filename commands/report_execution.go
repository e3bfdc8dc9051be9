package commands

import (
	"context"

	"github.com/voltrun/voltrun/domain"
)

// ReportExecutionHandler records what workers say of the executions that they hold.
type ReportExecutionHandler struct{ journal *journal }

// Handle records lines and, when end is not nil, how the execution ended. It answers domain.ErrNotRunning when the
// execution is not the worker's any more: nothing was written, and nothing that the worker says will be.
//
// ctx is not heeded once the report is on its way, so that a report which was written is never believed lost and
// written again.
func (h ReportExecutionHandler) Handle(ctx context.Context, attempt *Attempt, lines []domain.ExecutionLogLine, end domain.Event) error {
	events, err := domain.ReportExecution{WorkerID: attempt.Execution.WorkerID, Lines: lines, End: end}.Decide(attempt.Execution)
	if err != nil || len(events) == 0 {
		return err
	}
	return attempt.append(context.WithoutCancel(ctx), h.journal, domain.ErrNotRunning, events...)
}

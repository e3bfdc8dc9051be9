package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/runners"
)

// recorder is the log as runners know it: runners.Recorder and runners.Abandoned over commands and projections.
type recorder struct {
	commands *commands.Handlers
	queries  *projections.Queries
	store    *postgres.Store
	logger   *slog.Logger
}

var (
	_ runners.Recorder  = (*recorder)(nil)
	_ runners.Abandoned = (*recorder)(nil)
)

func newRecorder(c *commands.Handlers, q *projections.Queries, s *postgres.Store, logger *slog.Logger) *recorder {
	return &recorder{commands: c, queries: q, store: s, logger: logger}
}

// Claim ends what can never be run, so that it does not wait for ever.
func (r *recorder) Claim(ctx context.Context, w runners.Waiting, workerID uuid.UUID) (attempt *domain.Attempt, err error) {
	if w.Attempt != nil {
		attempt, err = r.commands.ClaimExecution.Accepted(ctx, *w.Attempt, workerID)
	} else {
		attempt, err = r.commands.ClaimExecution.Handle(ctx, w.ExecutionID, workerID)
	}
	if err == nil || errors.Is(err, domain.ErrNotClaimable) || feed.Passing(err) {
		return attempt, err
	}
	r.logger.Error("an execution cannot be run", "execution", w.ExecutionID, "error", err)
	err = r.Abandon(ctx, w.ExecutionID, uuid.Nil, domain.ExecutionFailed{
		ErrorType: domain.ErrorInternal, Error: "VoltRun could not run this execution. The server's log says why.",
	})
	if err == nil {
		err = domain.ErrNotClaimable
	}
	return nil, err
}

// Backlog reads on until it has found as many of the function as are asked for.
func (r *recorder) Backlog(ctx context.Context, accountID, functionID uuid.UUID, after int64, limit int) ([]runners.Waiting, error) {
	var backlog []runners.Waiting
	for {
		requests, err := r.store.UnclaimedOf(ctx, accountID, eventstore.Position(after), limit)
		if err != nil {
			return nil, err
		}
		waiting, err := r.waiting(ctx, requests)
		if err != nil {
			return nil, err
		}
		for _, w := range waiting {
			if w.FunctionID == functionID && len(backlog) < limit {
				backlog = append(backlog, w)
			}
		}
		if len(requests) < limit || len(backlog) == limit {
			return backlog, nil
		}
		after = int64(requests[len(requests)-1].Position)
	}
}

func (r *recorder) waiting(ctx context.Context, requests []eventstore.Event) ([]runners.Waiting, error) {
	executions, err := r.commands.WaitingExecutions(ctx, requests)
	waiting := make([]runners.Waiting, len(executions))
	for i, x := range executions {
		waiting[i] = runners.Waiting{
			ExecutionID: x.ExecutionID, AccountID: x.AccountID, FunctionID: x.FunctionID, Concurrency: x.Function.Concurrency,
			Position: int64(x.Position),
		}
	}
	return waiting, err
}

func (r *recorder) Report(ctx context.Context, attempt *domain.Attempt, lines []domain.ExecutionLogLine, end domain.Event) error {
	return r.commands.ReportExecution.Handle(ctx, attempt, lines, end)
}

// Unfinished asks the read model, which only says where to look: what is done about it is decided from the log.
func (r *recorder) Unfinished(ctx context.Context) ([]runners.Unfinished, error) {
	running, err := r.queries.Executions.Running(ctx)
	unfinished := make([]runners.Unfinished, len(running))
	for i, x := range running {
		unfinished[i] = runners.Unfinished(x)
	}
	return unfinished, err
}

func (r *recorder) Alive(ctx context.Context, workerID uuid.UUID) (bool, error) {
	return r.store.Alive(ctx, workerID)
}

func (r *recorder) Abandon(ctx context.Context, executionID, workerID uuid.UUID, failure domain.ExecutionFailed) error {
	return r.commands.AbandonExecution.Handle(ctx, executionID, domain.AbandonExecution{WorkerID: workerID, Failure: failure})
}

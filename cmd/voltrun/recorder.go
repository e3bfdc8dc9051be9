package main

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/runners"
)

// recorder is the log as runners know it: runners.Recorder and runners.Abandoned over commands and projections.
type recorder struct {
	commands *commands.Handlers
	queries  *projections.Queries
	store    *postgres.Store
}

var (
	_ runners.Recorder  = (*recorder)(nil)
	_ runners.Abandoned = (*recorder)(nil)
)

func newRecorder(c *commands.Handlers, q *projections.Queries, s *postgres.Store) *recorder {
	return &recorder{commands: c, queries: q, store: s}
}

func (r *recorder) Claim(ctx context.Context, executionID, workerID uuid.UUID) (*domain.Attempt, error) {
	return r.commands.ClaimExecution.Handle(ctx, executionID, workerID)
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

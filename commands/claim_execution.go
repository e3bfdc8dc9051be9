package commands

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// ClaimExecutionHandler gives executions to workers.
type ClaimExecutionHandler struct{ journal *journal }

// Handle claims an execution for a worker, or answers domain.ErrNotClaimable when another was faster or it is over.
func (h ClaimExecutionHandler) Handle(ctx context.Context, executionID, workerID uuid.UUID) (*domain.Attempt, error) {
	attempt, err := h.load(ctx, executionID)
	if err != nil {
		return nil, err
	}
	return h.Accepted(ctx, *attempt, workerID)
}

// Accepted is Handle for who has the execution at hand as it was accepted.
func (h ClaimExecutionHandler) Accepted(ctx context.Context, attempt domain.Attempt, workerID uuid.UUID) (*domain.Attempt, error) {
	events, err := domain.StartExecution{WorkerID: workerID}.Decide(attempt.Execution)
	if err != nil {
		return nil, err
	}
	if err := h.journal.advance(ctx, &attempt, workerID, domain.ErrNotClaimable, events...); err != nil {
		return nil, err
	}
	return &attempt, nil
}

func (h ClaimExecutionHandler) load(ctx context.Context, executionID uuid.UUID) (*domain.Attempt, error) {
	execution, err := load[domain.Execution](ctx, h.journal, executionID)
	if err != nil {
		return nil, err
	}
	function, err := h.journal.functions.at(ctx, h.journal, execution.state.FunctionID, execution.state.FunctionVersion)
	if err != nil {
		return nil, err
	}
	return &domain.Attempt{
		Execution: execution.state, Function: function, Version: execution.version,
		RequestEventID: execution.first.ID, CorrelationID: execution.first.CorrelationID,
	}, nil
}

// advance appends a worker's events at the attempt's version and moves the attempt on, or answers lost when somebody
// else has written to the execution or its account was erased. It does not stop for ctx: whoever asked must not believe that nothing was written
// when it was.
func (j *journal) advance(ctx context.Context, attempt *domain.Attempt, workerID uuid.UUID, lost error, events ...domain.Event) error {
	write, err := j.write(ctx, attempt.Execution.ID, eventstore.Exactly(attempt.Version), workerMetadata(attempt, workerID), events...)
	if errors.Is(err, domain.ErrAccountErased) {
		return lost
	}
	if err != nil {
		return err
	}
	_, err = j.store.Append(context.WithoutCancel(ctx), write)
	if eventstore.IsConflict(err) {
		return lost
	}
	if err != nil {
		return err
	}
	advanced(attempt, events)
	return nil
}

func workerMetadata(attempt *domain.Attempt, workerID uuid.UUID) eventstore.Metadata {
	return eventstore.Metadata{
		AccountID: attempt.Execution.AccountID, Actor: domain.Actor{Kind: domain.ActorWorker, ID: workerID},
		CorrelationID: attempt.CorrelationID, CausationID: attempt.RequestEventID,
	}
}

// advanced moves an attempt on by the events that the worker has written.
func advanced(attempt *domain.Attempt, events []domain.Event) {
	attempt.Version += len(events)
	for _, e := range events {
		attempt.Execution = attempt.Execution.Evolve(e)
	}
}

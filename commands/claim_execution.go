package commands

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Attempt is an execution that a worker holds. It remembers the version of the stream, so that nobody else can have
// written in between when the worker reports. It must not be used concurrently.
type Attempt struct {
	Execution domain.Execution
	Function  domain.Function // as it was when the execution was requested
	version   int
	meta      eventstore.Metadata
}

// ClaimExecutionHandler gives executions to workers.
type ClaimExecutionHandler struct{ journal *journal }

// Handle claims an execution for a worker, or answers domain.ErrNotClaimable when another was faster or it is over.
// Once the claim is on its way it does not stop for ctx: a claim that nobody knows of would never be run.
func (h ClaimExecutionHandler) Handle(ctx context.Context, executionID, workerID uuid.UUID) (*Attempt, error) {
	attempt, err := h.load(ctx, executionID, workerID)
	if err != nil {
		return nil, err
	}
	events, err := domain.StartExecution{WorkerID: workerID}.Decide(attempt.Execution)
	if err != nil {
		return nil, err
	}
	return attempt, attempt.append(context.WithoutCancel(ctx), h.journal, domain.ErrNotClaimable, events...)
}

func (h ClaimExecutionHandler) load(ctx context.Context, executionID, workerID uuid.UUID) (*Attempt, error) {
	execution, version, err := load[domain.Execution](ctx, h.journal, executionID)
	if err != nil {
		return nil, err
	}
	function, _, err := loadUntil[domain.Function](ctx, h.journal, execution.FunctionID, execution.FunctionVersion)
	if err != nil {
		return nil, err
	}
	return &Attempt{
		Execution: execution, Function: function, version: version,
		meta: eventstore.Metadata{
			AccountID: execution.AccountID, Actor: domain.Actor{Kind: domain.ActorWorker, ID: workerID},
			CorrelationID: executionID, CausationID: executionID,
		},
	}, nil
}

// append writes events at the attempt's version and moves it on. Who lost the race gets lost.
func (a *Attempt) append(ctx context.Context, j *journal, lost error, events ...domain.Event) error {
	write, err := j.write(a.Execution.ID, a.version, a.meta, events...)
	if err != nil {
		return err
	}
	_, err = j.store.Append(ctx, write)
	if eventstore.IsConflict(err) {
		return lost
	}
	if err != nil {
		return err
	}
	a.version += len(events)
	for _, e := range events {
		a.Execution = a.Execution.Evolve(e)
	}
	return nil
}

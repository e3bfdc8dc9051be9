package main

import (
	"context"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/runners"
)

// executions is the executor as the API knows it.
type executions struct{ *runners.Executor }

var _ rest.Executor = executions{}

// TryEnter implements rest.Executor.
func (x executions) TryEnter(f domain.Function) (rest.Place, error) {
	return placeOf(x.Executor.TryEnter(f))
}

// Enter implements rest.Executor.
func (x executions) Enter(ctx context.Context, f domain.Function) (rest.Place, error) {
	return placeOf(x.Executor.Enter(ctx, f))
}

// placeOf makes no place an interface without a value.
func placeOf(p *runners.Place, err error) (rest.Place, error) {
	if p == nil {
		return nil, err
	}
	return p, err
}

// Offer implements rest.Executor.
func (x executions) Offer(a commands.Accepted) {
	x.Executor.Offer(runners.Waiting{
		ExecutionID: a.Attempt.Execution.ID, AccountID: a.Attempt.Execution.AccountID, FunctionID: a.Attempt.Execution.FunctionID,
		Concurrency: a.Attempt.Function.Concurrency, Position: int64(a.Position), Attempt: a.Attempt,
	})
}

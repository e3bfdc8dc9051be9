package rest

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

type messageBody struct {
	Message string `json:"message"`
}

func (a *API) listFunctions(ctx context.Context, r *request) (int, any, error) {
	part, err := listPart(r, functionsPage)
	if err != nil {
		return 0, nil, err
	}
	queries, err := a.queriesFor(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	page, err := queries.Functions.List(ctx, r.caller.accountID, part)
	return answerPage(r, page, err)
}

func (a *API) getFunction(ctx context.Context, r *request) (int, any, error) {
	id, err := r.pathID("function")
	if err != nil {
		return 0, nil, err
	}
	queries, err := a.queriesFor(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	function, err := queries.Functions.Get(ctx, r.caller.accountID, id)
	return http.StatusOK, function, err
}

func (a *API) createFunction(ctx context.Context, r *request) (int, any, error) {
	var body struct {
		Name        string  `json:"name"`
		Description string  `json:"description"`
		Runtime     string  `json:"runtime"`
		Code        string  `json:"code"`
		EntryPoint  *string `json:"entry_point"`
		MemoryMB    *int    `json:"memory_mb"`
		TimeoutSec  *int    `json:"timeout_sec"`

		Network     *domain.Network `json:"network"`
		Concurrency *int            `json:"concurrency"`
	}
	if err := r.decode(&body); err != nil {
		return 0, nil, err
	}
	if err := a.checkNetwork(body.Network); err != nil {
		return 0, nil, err
	}
	id, position, err := r.commands.CreateFunction.Handle(ctx, r.origin(), domain.CreateFunction{
		AccountID: r.caller.accountID, Name: body.Name, Description: body.Description, Runtime: body.Runtime, Code: body.Code,
		EntryPoint: body.EntryPoint, MemoryMB: body.MemoryMB, TimeoutSec: body.TimeoutSec, Network: body.Network,
		Concurrency: body.Concurrency,
	})
	if err != nil {
		return 0, nil, err
	}
	r.response.Set("Location", "/api/functions/"+id.String())
	function, err := a.writtenFunction(ctx, r, id, position)
	return http.StatusCreated, function, err
}

func (a *API) updateFunction(ctx context.Context, r *request) (int, any, error) {
	id, err := r.pathID("function")
	if err != nil {
		return 0, nil, err
	}
	var changes domain.FunctionChanges
	if err := r.decode(&changes); err != nil {
		return 0, nil, err
	}
	if err := a.checkNetwork(changes.Network); err != nil {
		return 0, nil, err
	}
	position, err := r.commands.UpdateFunction.Handle(ctx, r.origin(), domain.UpdateFunction{
		FunctionID: id, AccountID: r.caller.accountID, Changes: changes,
	})
	if err != nil {
		return 0, nil, err
	}
	function, err := a.writtenFunction(ctx, r, id, position)
	return http.StatusOK, function, err
}

// checkNetwork refuses what this server could not give the function when it runs.
func (a *API) checkNetwork(wanted *domain.Network) error {
	if wanted == nil || *wanted != domain.NetworkEgress || a.noEgress == "" {
		return nil
	}
	return domain.InvalidFields([]domain.FieldError{{Field: "network", Message: a.noEgress}})
}

// writtenFunction reads a function that was just written. When it cannot be seen yet or any more the answer must not say
// that there never was one.
func (a *API) writtenFunction(ctx context.Context, r *request, id uuid.UUID, position projections.Position) (projections.Function, error) {
	seen := a.awaitSeen(ctx, "functions", position)
	function, err := a.queries.Functions.Get(ctx, r.caller.accountID, id)
	switch {
	case !domain.IsCode(err, domain.NotFound):
	case seen:
		err = domain.Errorf(domain.Conflict, "Function %s was saved, and has been deleted since.", id)
	default:
		err = domain.Errorf(domain.Unavailable, "Function %s is saved, but cannot be shown yet. Look for it again in a moment.", id)
	}
	return function, err
}

func (a *API) deleteFunction(ctx context.Context, r *request) (int, any, error) {
	id, err := r.pathID("function")
	if err != nil {
		return 0, nil, err
	}
	position, err := r.commands.DeleteFunction.Handle(ctx, r.origin(), domain.DeleteFunction{FunctionID: id, AccountID: r.caller.accountID})
	if err != nil {
		return 0, nil, err
	}
	a.awaitSeen(ctx, "functions", position)
	return http.StatusOK, messageBody{"The function was deleted. What it ran stays readable."}, nil
}

package rest

import (
	"context"
	"net/http"
	"slices"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

func (a *API) listExecutions(ctx context.Context, r *request) (int, any, error) {
	filter, part, err := parseExecutionList(newListQuery(r))
	if err != nil {
		return 0, nil, err
	}
	queries, err := a.queriesFor(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	page, err := queries.Executions.List(ctx, r.caller.accountID, filter, part)
	return answerPage(r, page, err)
}

// parseExecutionList reads which executions are wanted.
func parseExecutionList(q *listQuery) (filter projections.ExecutionFilter, part projections.PageRequest, err error) {
	q.read("function_id", func(value string) (ok bool) {
		filter.FunctionID, ok = parseID(value)
		return ok
	}, "the id of a function")
	q.read("status", func(value string) bool {
		filter.Status = domain.ExecutionStatus(value)
		return slices.Contains(domain.ExecutionStatuses(), filter.Status)
	}, "%s", choice(domain.ExecutionStatuses()))
	part = q.readPart(executionsPage)
	return filter, part, q.refusal()
}

func (a *API) getExecution(ctx context.Context, r *request) (int, any, error) {
	id, err := r.pathID("execution")
	if err != nil {
		return 0, nil, err
	}
	queries, err := a.queriesFor(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	execution, err := queries.Executions.Get(ctx, r.caller.accountID, id)
	if err == nil && execution.LogsArchived && queries == a.queries { // their rows are gone; those of the past were read from the archive
		execution, err = a.history.WithLogs(ctx, r.caller.accountID, id)
	}
	return http.StatusOK, execution, err
}

func (a *API) getLogs(ctx context.Context, r *request) (int, any, error) {
	id, err := r.pathID("execution")
	if err != nil {
		return 0, nil, err
	}
	queries, err := a.queriesFor(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	logs, err := queries.Logs.Get(ctx, r.caller.accountID, id)
	if err == nil && logs.Archived && queries == a.queries {
		logs, err = a.history.Logs(ctx, r.caller.accountID, id)
	}
	return http.StatusOK, logs, err
}

package rest

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

func (a *API) listExecutions(ctx context.Context, r *request) (int, any, error) {
	filter, part, err := parseExecutionList(newListQuery(r))
	if err != nil {
		return 0, nil, err
	}
	a.awaitInvoked(ctx, r.caller.accountID)
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
	a.awaitInvoked(ctx, r.caller.accountID)
	queries, err := a.queriesFor(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	execution, err := queries.Executions.Get(ctx, r.caller.accountID, id)
	if a.mayBeNew(ctx, queries, err) {
		execution, err = queries.Executions.Get(ctx, r.caller.accountID, id)
	}
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
	a.awaitInvoked(ctx, r.caller.accountID)
	queries, err := a.queriesFor(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	logs, err := queries.Logs.Get(ctx, r.caller.accountID, id)
	if a.mayBeNew(ctx, queries, err) {
		logs, err = queries.Logs.Get(ctx, r.caller.accountID, id)
	}
	if err == nil && logs.Archived && queries == a.queries {
		logs, err = a.history.Logs(ctx, r.caller.accountID, id)
	}
	return http.StatusOK, logs, err
}

// invokedLately is for how long an account's reads wait for what it has invoked. A projection that is later than that is at
// fault, and its state is in the health check.
const invokedLately = 5 * time.Second

// accountsKnown bounds for how many accounts it is remembered.
const accountsKnown = 10_000

// awaitInvoked lets an account that has just run something see how it goes. The request does not wait itself: that would make
// the read model keep pace with each of thousands, and who asks for an execution seldom looks at it at once.
func (a *API) awaitInvoked(ctx context.Context, accountID uuid.UUID) {
	at, ok := a.invoked.Get(accountID)
	if !ok || time.Since(at) > invokedLately {
		return
	}
	a.awaitHead(ctx)
}

// mayBeNew tells whether to look again for an execution that was not there: somebody may have asked for it a moment ago
// through another server.
func (a *API) mayBeNew(ctx context.Context, queries *projections.Queries, err error) bool {
	return domain.IsCode(err, domain.NotFound) && queries == a.queries && a.awaitHead(ctx)
}

// awaitHead waits until executions are shown as the log has them now, and tells whether they are.
func (a *API) awaitHead(ctx context.Context) bool {
	head, err := a.health.Head(ctx)
	return err == nil && a.awaitSeen(ctx, "executions", head)
}

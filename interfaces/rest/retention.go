package rest

import (
	"context"
	"net/http"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

// logLines is the kind of events that has a retention.
var logLines = domain.ExecutionLogLine{}.EventType()

// retentionBody says for how many days what an account's functions print stays at hand. After that it may move to the
// archive.
type retentionBody struct {
	projections.Retention
	Default projections.Retention `json:"default"` // the operator's, which holds where the account has none
}

func (a *API) getRetention(ctx context.Context, r *request) (int, any, error) {
	own, err := a.queries.Accounts.Retention(ctx, r.caller.accountID)
	if err != nil {
		return 0, nil, err
	}
	body := retentionBody{Retention: own}
	if days, ok := a.retention[logLines]; ok {
		body.Default.LogLine = &days
	}
	return http.StatusOK, body, nil
}

// setRetention changes what is given: a number of days, or null to have the operator's retention again.
func (a *API) setRetention(ctx context.Context, r *request) (int, any, error) {
	var body struct {
		LogLine **int `json:"execution.log_line"`
	}
	if err := r.decode(&body); err != nil {
		return 0, nil, err
	}
	cmd := domain.SetRetention{AccountID: r.caller.accountID, Days: map[string]*int{}}
	if body.LogLine != nil {
		cmd.Days[logLines] = *body.LogLine
	}
	position, err := r.commands.SetRetention.Handle(ctx, r.origin(), cmd)
	if err != nil {
		return 0, nil, err
	}
	a.awaitSeen(ctx, "accounts", position)
	return a.getRetention(ctx, r)
}

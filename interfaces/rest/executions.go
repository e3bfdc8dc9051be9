package rest

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

func (a *API) listExecutions(ctx context.Context, r *request) (int, any, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, nil, domain.Errorf(domain.Invalid, "The part of the address after the question mark is malformed.")
	}
	filter, err := parseFilter(query)
	if err != nil {
		return 0, nil, err
	}
	page, err := a.queries.Executions.List(ctx, r.caller.accountID, filter)
	if err != nil {
		return 0, nil, err
	}
	if page.Next > 0 {
		query.Set("cursor", encodeCursor(page.Next))
		r.response.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), query.Encode()))
	}
	return http.StatusOK, page.Executions, nil
}

func (a *API) getExecution(ctx context.Context, r *request) (int, any, error) {
	id, err := r.pathID("execution")
	if err != nil {
		return 0, nil, err
	}
	execution, err := a.queries.Executions.Get(ctx, r.caller.accountID, id)
	return http.StatusOK, execution, err
}

func (a *API) getLogs(ctx context.Context, r *request) (int, any, error) {
	id, err := r.pathID("execution")
	if err != nil {
		return 0, nil, err
	}
	logs, err := a.queries.Logs.Get(ctx, r.caller.accountID, id)
	return http.StatusOK, logs, err
}

// parseFilter reads the query of a list of executions. A parameter that is empty is as good as absent.
func parseFilter(query url.Values) (projections.ExecutionFilter, error) {
	filter := projections.ExecutionFilter{Limit: projections.DefaultPageSize}
	var wrong []domain.FieldError
	read := func(name string, parse func(value string) bool, format string, args ...any) {
		value := query.Get(name)
		if value != "" && !parse(value) {
			wrong = append(wrong, domain.FieldError{Field: name, Message: name + " must be " + fmt.Sprintf(format, args...) + ", but is " + strconv.Quote(shorten(value)) + "."})
		}
	}
	read("function_id", func(value string) (ok bool) {
		filter.FunctionID, ok = parseID(value)
		return ok
	}, "the id of a function")
	read("status", func(value string) bool {
		filter.Status = domain.ExecutionStatus(value)
		return slices.Contains(domain.ExecutionStatuses(), filter.Status)
	}, "one of %v", domain.ExecutionStatuses())
	read("limit", func(value string) bool {
		n, err := strconv.Atoi(value)
		filter.Limit = n
		return err == nil && n >= 1 && n <= projections.MaxPageSize
	}, "between 1 and %d", projections.MaxPageSize)
	read("cursor", func(value string) (ok bool) {
		filter.Before, ok = parseCursor(value)
		return ok
	}, "one that a Link header gave")
	return filter, domain.InvalidFields(wrong)
}

// encodeCursor wraps the position after which a page goes on. Clients give it back and make nothing of it.
func encodeCursor(position int64) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(position)))
}

func parseCursor(text string) (position int64, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != 8 {
		return 0, false
	}
	position = int64(binary.BigEndian.Uint64(raw))
	return position, position > 0
}

package rest

import (
	"context"
	"time"

	"github.com/voltrun/voltrun/projections"
)

// asOfHeader tells which moment an answer of the past is of.
const asOfHeader = "X-VoltRun-As-Of"

// queriesFor returns the read models as they are, or as they were at the moment that the request names.
func (a *API) queriesFor(ctx context.Context, r *request) (*projections.Queries, error) {
	if r.URL.RawQuery == "" {
		return a.queries, nil
	}
	q := newListQuery(r)
	moment, named := q.readMoment()
	if err := q.refusal(); err != nil || !named {
		return a.queries, err
	}
	queries, resolved, err := a.history.AsOf(ctx, r.caller.accountID, moment)
	if err != nil {
		return nil, err
	}
	r.response.Set(asOfHeader, resolved.String())
	return queries, nil
}

const momentFormat = "a time like 2026-11-23T12:00:00Z or a position"

func (q *listQuery) readMoment() (moment projections.Moment, named bool) {
	if q.values.Has("as_of") && q.values.Get("as_of") == "" { // the answer would be taken for one of the past
		q.refuse("as_of", "as_of must be %s, but is empty.", momentFormat)
		return moment, false
	}
	q.read("as_of", func(value string) bool {
		named = true
		var isPosition bool
		if moment.Position, isPosition = parsePosition(value); isPosition {
			return true
		}
		var err error
		moment.Time, err = time.Parse(time.RFC3339, value)
		return err == nil
	}, momentFormat)
	return moment, named
}

package rest

import (
	"context"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

// What happened to one thing fits on one page most of the time; what happened to an account never does.
var (
	eventsPage = pageSize{usual: 1000, most: 1000}
	auditPage  = pageSize{usual: 100, most: 1000}
)

// listAudit answers with everything that happened to the caller's account, newest first.
func (a *API) listAudit(ctx context.Context, r *request) (int, any, error) {
	audit, err := parseAudit(newListQuery(r))
	if err != nil {
		return 0, nil, err
	}
	return a.answerHistory(ctx, r, audit)
}

// eventsOf answers with everything that happened to one thing, oldest first. What was deleted keeps its history.
func (a *API) eventsOf(kind string) handler {
	return func(ctx context.Context, r *request) (int, any, error) {
		id, err := r.pathID(kind)
		if err != nil {
			return 0, nil, err
		}
		audit := projections.Audit{Subject: id, OldestFirst: true}
		q := newListQuery(r)
		q.readAuditPage(&audit, eventsPage)
		if err := q.refusal(); err != nil {
			return 0, nil, err
		}
		has, err := a.history.Has(ctx, r.caller.accountID, kind, id)
		if err == nil && !has {
			err = domain.Errorf(domain.NotFound, "There is no %s %s.", kind, id)
		}
		if err != nil {
			return 0, nil, err
		}
		return a.answerHistory(ctx, r, audit)
	}
}

// answerHistory answers with a page, or with everything as lines when the client asks for those.
func (a *API) answerHistory(ctx context.Context, r *request, audit projections.Audit) (int, any, error) {
	r.response.Add("Vary", "Accept")
	if wantsLines(r.Request) {
		return http.StatusOK, lines{a, r.Request, r.caller.accountID, a.history.Pages(r.Context(), r.caller.accountID, audit)}, nil
	}
	page, err := a.history.Audit(ctx, r.caller.accountID, audit)
	return answerPage(r, page, err)
}

// parseAudit reads which events of an account are wanted.
func parseAudit(q *listQuery) (projections.Audit, error) {
	var audit projections.Audit
	q.readTypes(&audit)
	q.read("actor", func(value string) bool { return readActor(value, &audit) },
		"a kind of actor (%s), the id of an actor, or the prefix of an API key", choice(actorKinds))
	q.read("subject", func(value string) (ok bool) {
		audit.Subject, ok = parseID(value)
		return ok
	}, "the id of what the events are about")
	q.readTime("since", &audit.Since)
	q.readTime("until", &audit.Until)
	q.readPosition("from", &audit.From)
	q.readPosition("to", &audit.To)
	q.readAuditPage(&audit, auditPage)
	return audit, q.refusal()
}

func (q *listQuery) readAuditPage(audit *projections.Audit, size pageSize) {
	q.read("order", func(value string) bool {
		audit.OldestFirst = value == "asc"
		return value == "asc" || value == "desc"
	}, "asc or desc")
	part := q.readPart(size)
	audit.After, audit.Limit = part.Before, part.Limit
}

// readTypes reads the types of events, each by its name or by a prefix with a star.
func (q *listQuery) readTypes(audit *projections.Audit) {
	for _, value := range q.values["type"] {
		q.readValue("type", value, func(pattern string) bool {
			found := eventTypes(pattern)
			audit.Types = append(audit.Types, found...)
			return len(found) > 0
		}, "a type of event, like function.created, or the beginning of some, like execution.*")
	}
}

// eventTypes are the types that a pattern stands for.
func eventTypes(pattern string) (found []string) {
	prefix, star := strings.CutSuffix(pattern, "*")
	for _, e := range domain.Events() {
		if t := e.EventType(); t == pattern || star && strings.HasPrefix(t, prefix) {
			found = append(found, t)
		}
	}
	return found
}

// keyPrefix is what is shown of an API key.
var keyPrefix = regexp.MustCompile(`^vr_[0-9a-f]{9}$`)

var actorKinds = []domain.ActorKind{domain.ActorUser, domain.ActorAPIKey, domain.ActorWorker, domain.ActorSystem}

func readActor(value string, audit *projections.Audit) bool {
	id, isID := parseID(value)
	kind := domain.ActorKind(value)
	switch {
	case isID:
		audit.ActorID = id
	case slices.Contains(actorKinds, kind):
		audit.ActorKind = kind
	case keyPrefix.MatchString(value):
		audit.ActorPrefix = value
	default:
		return false
	}
	return true
}

func (q *listQuery) readTime(name string, target *time.Time) {
	q.read(name, func(value string) bool {
		at, err := time.Parse(time.RFC3339, value)
		*target = at
		return err == nil
	}, "a time like 2026-11-23T12:00:00Z")
}

func (q *listQuery) readPosition(name string, target *projections.Position) {
	q.read(name, func(value string) (ok bool) {
		*target, ok = parsePosition(value)
		return ok && *target > 0
	}, "a position, which counts from 1")
}

func parsePosition(value string) (position projections.Position, ok bool) {
	n, err := strconv.ParseUint(value, 10, 63)
	return projections.Position(n), err == nil && n < math.MaxInt64
}

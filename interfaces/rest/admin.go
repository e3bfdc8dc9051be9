package rest

import (
	"context"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

// projectionBody is a projection as the operator sees it: the error says what really happened.
type projectionBody struct {
	projections.Status
	Rebuild *projections.Progress `json:"rebuild,omitempty"` // the last one since the server was started
}

func (a *API) listProjections(ctx context.Context, _ *request) (int, any, error) {
	head, err := a.health.Head(ctx)
	if err != nil {
		return 0, nil, err
	}
	list := []projectionBody{}
	for _, s := range a.live.Status(head) {
		list = append(list, a.projectionBody(s))
	}
	return http.StatusOK, list, nil
}

func (a *API) projectionBody(s projections.Status) projectionBody {
	body := projectionBody{Status: s}
	if rebuild, err := a.rebuilds.Progress(s.Name); err == nil {
		body.Rebuild = &rebuild
	}
	return body
}

func (a *API) startRebuild(_ context.Context, r *request) (int, any, error) {
	name := projectionName(r)
	progress, err := a.rebuilds.Start(name)
	if err != nil {
		return 0, nil, err
	}
	r.response.Set("Location", "/api/admin/projections/"+name+"/rebuild")
	return http.StatusAccepted, progress, nil
}

func (a *API) showRebuild(_ context.Context, r *request) (int, any, error) {
	progress, err := a.rebuilds.Progress(projectionName(r))
	return http.StatusOK, progress, err
}

// cancelRebuild answers when the rebuild is over, with how it ended: it may have been faster.
func (a *API) cancelRebuild(ctx context.Context, r *request) (int, any, error) {
	progress, err := a.rebuilds.Cancel(ctx, projectionName(r))
	return http.StatusOK, progress, err
}

// resumeProjection lets a paused projection try again. Whether it gets further is seen a moment later.
func (a *API) resumeProjection(ctx context.Context, r *request) (int, any, error) {
	name := projectionName(r)
	head, err := a.health.Head(ctx)
	if err != nil {
		return 0, nil, err
	}
	if !a.live.Resume(name) {
		return 0, nil, domain.Errorf(domain.NotFound, "There is no projection %q.", name)
	}
	for _, s := range a.live.Status(head) {
		if s.Name == name {
			return http.StatusOK, a.projectionBody(s), nil
		}
	}
	return 0, nil, nothingAt(r.Request)
}

func projectionName(r *request) string { return shorten(mux.Vars(r.Request)["name"]) }

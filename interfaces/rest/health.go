package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

// Health is what the health check asks.
type Health struct {
	Version    string
	Runtimes   []string                                            // the runtime words that this host serves
	Ping       func(ctx context.Context) error                     // whether the store answers
	Head       func(context.Context) (projections.Position, error) // the log's newest position
	Keys       func(context.Context) error                         // whether the data of every account can be opened, as far as is known
	Executions func() ExecutionsHealth
	Isolation  any        // how functions are kept apart, and what is enforced; nil: not told
	Processes  func() any // what processes there are for functions; nil: not told
}

func (h Health) complete() bool {
	return h.Ping != nil && h.Head != nil && h.Keys != nil && h.Executions != nil
}

// healthyWithin is how long the store may take to answer, and the projections to show what the log held when they were
// asked. Time is the measure and not a number of events: thousands of events behind is a blink when the log is busy, and
// one event behind is a fault when it stays so.
const healthyWithin = time.Second

type healthBody struct {
	Status      string               `json:"status"`
	Error       string               `json:"error,omitempty"`
	Version     string               `json:"version"`
	Store       storeHealth          `json:"store"`
	Log         logHealth            `json:"log"`
	Projections []projections.Status `json:"projections"`
	Runtimes    []string             `json:"runtimes"`
	Executions  ExecutionsHealth     `json:"executions"`
	Proof       proofHealth          `json:"proof"`
	Isolation   any                  `json:"isolation,omitempty"`
	Processes   any                  `json:"processes,omitempty"`
}

type storeHealth struct {
	Status string `json:"status"`
}

type logHealth struct {
	Head projections.Position `json:"head"`
}

// proofHealth is how the proof of history stands.
type proofHealth struct {
	Size     int64      `json:"size"` // how many events the newest signed head covers
	SignedAt *time.Time `json:"signed_at,omitempty"`
	Error    string     `json:"error,omitempty"`
}

// ExecutionsHealth is how busy this server's executor is.
type ExecutionsHealth struct {
	Running int `json:"running"`
	Slots   int `json:"slots"`
	Waiting int `json:"waiting"` // as far as this server knows
}

const (
	healthOK          = "ok"
	healthDegraded    = "degraded" // it serves, but not everybody
	healthUnavailable = "unavailable"
)

func (a *API) checkHealth(ctx context.Context, r *request) (int, any, error) {
	body := healthBody{Status: healthOK, Version: a.health.Version, Store: storeHealth{healthOK}, Runtimes: a.health.Runtimes}
	body.Executions, body.Isolation = a.health.Executions(), a.health.Isolation
	if a.health.Processes != nil {
		body.Processes = a.health.Processes()
	}
	head, err := a.checkStore(ctx)
	if err != nil {
		a.logFailure(r.Request, "the health check did not reach the store", err)
		body.Store.Status, body.Error = healthUnavailable, "The store does not answer."
	} else {
		body.Error = a.checkProjections(ctx, head)
	}
	if broken := a.checkProof(&body); body.Error == "" {
		body.Error = broken
	}
	body.Log.Head, body.Projections = head, a.projectionStatus(head)
	locked := a.checkKeys(ctx)
	switch {
	case locked != "" && body.Store.Status == healthOK: // it may be what keeps the rest
		body.Status, body.Error = healthDegraded, locked
	case body.Error != "":
		body.Status = healthUnavailable
	default:
		return http.StatusOK, body, nil
	}
	return http.StatusServiceUnavailable, body, nil
}

// checkKeys says what keeps the data of accounts from being opened here, if anything.
func (a *API) checkKeys(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	var refusal *domain.Error
	if errors.As(a.health.Keys(ctx), &refusal) {
		return refusal.Message
	}
	return ""
}

func (a *API) checkStore(ctx context.Context) (head projections.Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	if err := a.health.Ping(ctx); err != nil {
		return 0, err
	}
	return a.health.Head(ctx)
}

// checkProjections says which projection is not caught up, if any.
func (a *API) checkProjections(ctx context.Context, head projections.Position) string {
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	for _, p := range a.live.Status(head) {
		if p.State == projections.Paused {
			return fmt.Sprintf("The projection %q is paused.", p.Name)
		}
		if err := a.live.Wait(ctx, p.Name, head); err != nil {
			return fmt.Sprintf("The projection %q is behind the log.", p.Name)
		}
	}
	return ""
}

// checkProof shows how the proof of history stands, and says when history is not what was signed. That a head is late is no
// reason to serve nobody.
func (a *API) checkProof(body *healthBody) string {
	status := a.proof.Status()
	body.Proof.Size = status.Size
	if !status.SignedAt.IsZero() {
		body.Proof.SignedAt = &status.SignedAt
	}
	switch {
	case status.Broken != "":
		body.Proof.Error = "History is not what was signed: " + status.Broken + "."
		return "The proof of history does not hold."
	case status.OtherKey != "":
		body.Proof.Error = status.OtherKey
		return "The log is signed by another key than this server's."
	case status.Failing:
		body.Proof.Error = "The last head could not be signed. The server's log says why."
	}
	return ""
}

// projectionStatus is where the projections stand. Why one is paused may hold SQL and is for the server's log only.
func (a *API) projectionStatus(head projections.Position) []projections.Status {
	list := a.live.Status(head)
	for i := range list {
		if list[i].Error != "" {
			list[i].Error = fmt.Sprintf("It could not go on after position %d. The server's log says why.", list[i].Position)
		}
	}
	return list
}

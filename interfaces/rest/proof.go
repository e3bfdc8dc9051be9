package rest

import (
	"context"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/voltrun/voltrun/domain"
)

// Proof is the proof of history, of which the API knows no more than how to ask for it. What the functions answer is sent
// as JSON; their errors are domain errors where the caller can do something about them.
type Proof struct {
	// Checkpoint returns the newest signed head, and as text for those who want it as it was signed.
	Checkpoint func(ctx context.Context) (checkpoint any, note string, err error)
	// Event proves an event of an account under the head of that size, 0 for the newest.
	Event func(ctx context.Context, account uuid.UUID, position, size int64) (any, error)
	// Consistency proves that the head of size to, 0 for the newest, continues the one of size from.
	Consistency func(ctx context.Context, from, to int64) (any, error)
	// Bundle writes an account's events with their proofs: those of one execution unless that is nil. since is the size of
	// a head that they are shown to continue, 0 for none.
	Bundle func(ctx context.Context, account, execution uuid.UUID, since int64, to io.Writer) error
	Status func() ProofStatus
}

// ProofStatus is how the proof of history stands.
type ProofStatus struct {
	Size     int64     // how many events the newest head covers
	SignedAt time.Time // zero when nothing was signed yet
	Failing  bool      // the last head could not be signed
	Broken   string    // what is not as it was signed, in a sentence; empty when nothing is known to be
	OtherKey string    // that somebody else's key signed the log, in sentences; empty when it was ours
}

func (p Proof) complete() bool {
	return p.Checkpoint != nil && p.Event != nil && p.Consistency != nil && p.Bundle != nil && p.Status != nil
}

// getCheckpoint answers with the signed note itself, or with JSON for those who ask for it.
func (a *API) getCheckpoint(ctx context.Context, r *request) (int, any, error) {
	r.response.Add("Vary", "Accept")
	checkpoint, note, err := a.proof.Checkpoint(ctx)
	if err != nil || accepts(r.Request, "application/json") {
		return http.StatusOK, checkpoint, err
	}
	return http.StatusOK, file{"text/plain; charset=utf-8", []byte(note)}, nil
}

// accepts tells whether a client names a content type among those that it wants.
func accepts(r *http.Request, wanted string) bool {
	for accepted := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		if mediaType, _, err := mime.ParseMediaType(accepted); err == nil && mediaType == wanted {
			return true
		}
	}
	return false
}

func (a *API) getEventProof(ctx context.Context, r *request) (int, any, error) {
	text := mux.Vars(r.Request)["position"]
	position, ok := parseCount(text)
	if !ok || position == 0 {
		return 0, nil, domain.Errorf(domain.NotFound, "There is no event at position %s.", shorten(text))
	}
	q := newListQuery(r)
	size := q.readSize("size")
	if err := q.refusal(); err != nil {
		return 0, nil, err
	}
	body, err := a.proof.Event(ctx, r.caller.accountID, position, size)
	return http.StatusOK, body, err
}

func (a *API) getConsistency(ctx context.Context, r *request) (int, any, error) {
	q := newListQuery(r)
	from, to := q.readSize("from"), q.readSize("to")
	if q.values.Get("from") == "" {
		q.refuse("from", "from is missing: the size of the head that you have.")
	}
	if err := q.refusal(); err != nil {
		return 0, nil, err
	}
	body, err := a.proof.Consistency(ctx, from, to)
	return http.StatusOK, body, err
}

// getBundle answers with a file for somebody who has no access. It may be long, so it is written as it is made.
func (a *API) getBundle(_ context.Context, r *request) (int, any, error) {
	q := newListQuery(r)
	since := q.readSize("since")
	var execution uuid.UUID
	q.read("execution", func(value string) (ok bool) {
		execution, ok = parseID(value)
		return ok
	}, "the id of an execution")
	if err := q.refusal(); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, download{a, r.Request, r.caller.accountID, "voltrun-bundle.ndjson", func(w io.Writer) error {
		return a.proof.Bundle(r.Context(), r.caller.accountID, execution, since, w)
	}}, nil
}

// readSize reads how many events a head covers. It is 0 when it is absent.
func (q *listQuery) readSize(name string) (size int64) {
	q.read(name, func(value string) (ok bool) {
		size, ok = parseCount(value)
		return ok && size > 0
	}, "the size of a head, which counts from 1")
	return size
}

func parseCount(text string) (n int64, ok bool) {
	parsed, err := strconv.ParseUint(text, 10, 63)
	return int64(parsed), err == nil
}

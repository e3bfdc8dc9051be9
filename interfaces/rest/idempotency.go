package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
)

// How clients name a request that they may send again (draft-ietf-httpapi-idempotency-key-header), and how they see that
// an answer is not the first one's.
const (
	idempotencyHeader = "Idempotency-Key"
	replayedHeader    = "Idempotent-Replayed"
)

// The draft wants the key as a quoted string of a structured field; what most clients send is the bare key.
var (
	bareKey   = regexp.MustCompile(`^[!#-~][!-~]{0,254}$`)
	quotedKey = regexp.MustCompile(`^"(?:[ !#-\[\]-~]|\\["\\]){1,255}"$`)
	unescape  = strings.NewReplacer(`\"`, `"`, `\\`, `\`)
)

// idempotencyKey reads the key of a request that has the header.
func idempotencyKey(h http.Header) (string, error) {
	values := h.Values(idempotencyHeader)
	switch {
	case len(values) > 1:
		return "", domain.Errorf(domain.Invalid, "The header Idempotency-Key is given %d times. A request has one key.", len(values))
	case bareKey.MatchString(values[0]):
		return values[0], nil
	case quotedKey.MatchString(values[0]):
		return unescape.Replace(values[0][1 : len(values[0])-1]), nil
	}
	return "", domain.Errorf(domain.Invalid,
		"The header Idempotency-Key must be 1 to 255 visible ASCII characters, bare or in double quotes, such as a UUID, but is %q.", shorten(values[0]))
}

// once carries a request with an idempotency key out, or answers it again. It works for every route that changes things
// through its request's commands alone.
func (a *API) once(ctx context.Context, rt route, r *request) (int, any, error) {
	key, err := idempotencyKey(r.Header)
	if err != nil {
		return 0, nil, err
	}
	asked := commands.Request{
		Owner: ownerOf(rt, r), Key: key, AccountID: r.caller.accountID,
		Content: fmt.Appendf(nil, "%s %s\n%s", r.Method, r.URL.RequestURI(), r.body),
	}
	answer, repeated, err := a.idempotency.Do(ctx, asked, func(ctx context.Context, handlers *commands.Handlers) ([]byte, commands.Outcome) {
		return a.record(ctx, rt, r, handlers)
	})
	if errors.Is(err, commands.ErrStillRunning) {
		r.response.Set("Retry-After", "1")
	}
	if err != nil {
		return 0, nil, err
	}
	if repeated {
		r.response.Set(replayedHeader, "true")
	}
	recorded, err := decodeRecording(answer)
	return recorded.Status, recorded, err
}

// ownerOf says whose keys a request's key is one of: the account's, or on routes for anyone, the route's and whatever
// credential came along. Nobody gets an answer that another credential earned.
func ownerOf(rt route, r *request) string {
	if rt.access == signedIn {
		return "account " + r.caller.accountID.String()
	}
	return rt.path + " " + credentialOf(r.Request)
}

// record lets a route answer into a recording.
func (a *API) record(ctx context.Context, rt route, r *request, handlers *commands.Handlers) ([]byte, commands.Outcome) {
	answer := &recording{Head: http.Header{}}
	again := *r
	again.commands, again.response, again.repeatable = handlers, answer.Head, true
	status, body, err := rt.handle(ctx, &again)
	if err != nil {
		a.refuse(answer, r.Request, err)
	} else {
		a.write(answer, r.Request, status, body)
	}
	return answer.encode(), answer.outcome()
}

// recording is an answer that can be given again.
type recording struct {
	Status int         `json:"status"`
	Head   http.Header `json:"header"`
	body   []byte
}

// encode makes a line of JSON for everything but the body, which follows as it is.
func (w *recording) encode() []byte {
	line, _ := json.Marshal(w) // never fails: it is made of a number and strings
	return slices.Concat(line, []byte("\n"), w.body)
}

func decodeRecording(encoded []byte) (*recording, error) {
	line, body, _ := bytes.Cut(encoded, []byte("\n"))
	w := &recording{body: body}
	return w, json.Unmarshal(line, w)
}

// Header implements http.ResponseWriter.
func (w *recording) Header() http.Header { return w.Head }

// WriteHeader implements http.ResponseWriter.
func (w *recording) WriteHeader(status int) {
	if w.Status == 0 {
		w.Status = status
	}
}

// Write implements http.ResponseWriter.
func (w *recording) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}

func (w *recording) outcome() commands.Outcome {
	switch {
	case w.Status >= http.StatusInternalServerError:
		return commands.Failed
	case w.Status >= http.StatusBadRequest:
		return commands.Refused
	}
	return commands.Done
}

func (w *recording) write(to http.ResponseWriter) {
	for name, values := range w.Head {
		to.Header()[name] = values
	}
	to.WriteHeader(w.Status)
	_, _ = to.Write(w.body) // the client may be gone
}

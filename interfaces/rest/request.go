package rest

import (
	"errors"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
)

// request is one call of the API.
type request struct {
	*http.Request
	caller   caller // who asks; zero on routes for anyone
	commands *commands.Handlers
	body     []byte
	response http.Header

	repeatable bool // it has an idempotency key, under which it may be carried out again
}

// caller is who asks.
type caller struct {
	accountID uuid.UUID
	sessionID uuid.UUID // nil for an API key
	actor     domain.Actor
}

// origin is what the events of this request say about where they come from.
func (r *request) origin() commands.Origin {
	actor := r.caller.actor
	if actor.Kind == "" {
		actor.Kind = domain.ActorSystem
	}
	return commands.Origin{Actor: actor, RequestID: requestID(r.Context())}
}

// decode fills the struct that target points to from the body.
func (r *request) decode(target any) error { return decodeObject(r.body, target) }

// decodeOptional is decode for a body that may be absent.
func (r *request) decodeOptional(target any) error {
	if len(r.body) == 0 {
		return nil
	}
	return r.decode(target)
}

// pathID returns the id in the path. What is no id names nothing, so it is answered like the id of nothing.
func (r *request) pathID(noun string) (uuid.UUID, error) {
	text := mux.Vars(r.Request)["id"]
	id, ok := parseID(text)
	if !ok {
		return uuid.Nil, domain.Errorf(domain.NotFound, "There is no %s %s.", noun, shorten(text))
	}
	return id, nil
}

// parseID reads a UUID in its usual form only.
func parseID(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && len(text) == 36
}

// readBody reads at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if limit == noBody {
		return nil, nil
	}
	refusal := domain.Errorf(domain.TooLarge, "The body may have at most %d bytes here.", limit)
	if r.ContentLength > limit {
		return nil, refusal // before the client is invited to send it
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, refusal
	case err != nil:
		return nil, domain.Errorf(domain.Invalid, "The body could not be read to its end.")
	}
	return body, nil
}

// shownLength is how much of a client's own text an error repeats, in characters.
const shownLength = 80

// shorten makes a client's text fit into a message.
func shorten(text string) string {
	if utf8.RuneCountInString(text) <= shownLength {
		return text
	}
	return string([]rune(text)[:shownLength]) + "…"
}

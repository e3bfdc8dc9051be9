package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// problem is the body of every error. Title, status and the like have the meaning of RFC 9457.
type problem struct {
	Error     string              `json:"error"` // a sentence for a person
	Code      string              `json:"code"`  // the same in one word for a program
	Title     string              `json:"title"`
	Status    int                 `json:"status"`
	Fields    []domain.FieldError `json:"fields,omitempty"`
	RequestID uuid.UUID           `json:"request_id"`
}

var statuses = map[domain.Code]int{
	domain.Invalid:      http.StatusBadRequest,
	domain.Unauthorized: http.StatusUnauthorized,
	domain.Forbidden:    http.StatusForbidden,
	domain.NotFound:     http.StatusNotFound,
	domain.Conflict:     http.StatusConflict,
	domain.KeyReused:    http.StatusUnprocessableEntity,
	domain.TooLarge:     http.StatusRequestEntityTooLarge,
	domain.Busy:         http.StatusTooManyRequests,
	domain.Unavailable:  http.StatusServiceUnavailable,
}

var (
	errTooSlow = &domain.Error{Code: domain.Unavailable,
		Message: "This took too long and was given up. It may have been carried out all the same: look before you send it again."}
	errOutage = &domain.Error{Code: domain.Unavailable,
		Message: "VoltRun cannot reach its database. Try again in a moment."}
)

// refuse answers with an error: the only place where errors become statuses.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *domain.Error
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		refusal = errTooSlow
	case isOutage(err):
		a.logFailure(r, "the database cannot be reached", err)
		refusal = errOutage
	default:
		a.logFailure(r, "a request failed", err)
		a.writeProblem(w, r, internalProblem(r))
		return
	}
	switch refusal.Code {
	case domain.Unauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="VoltRun"`)
	case domain.Busy, domain.Unavailable:
		w.Header().Set("Retry-After", "1")
	}
	a.writeProblem(w, r, problem{
		Status: statuses[refusal.Code], Code: string(refusal.Code), Error: refusal.Message, Fields: refusal.Fields,
	})
}

// isOutage tells whether the database is away, for a moment at least: the connection is refused or broke, or Postgres
// says that it is starting or stopping (SQLSTATE class 57P).
func isOutage(err error) bool {
	var network net.Error
	var stopping interface{ SQLState() string }
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &stopping) && strings.HasPrefix(stopping.SQLState(), "57P")
}

func (a *API) logFailure(r *http.Request, message string, err error) {
	a.logger.LogAttrs(r.Context(), slog.LevelError, message,
		slog.Any("error", err), slog.Any("request_id", requestID(r.Context())), slog.String("route", traceOf(r.Context()).route))
}

func internalProblem(r *http.Request) problem {
	return problem{
		Status: http.StatusInternalServerError, Code: "internal",
		Error: "Something went wrong on our side. The server's log tells more under request id " + requestID(r.Context()).String() + ".",
	}
}

func (a *API) writeProblem(w http.ResponseWriter, r *http.Request, p problem) {
	p.Title, p.RequestID = http.StatusText(p.Status), requestID(r.Context())
	a.write(w, r, p.Status, p)
}

// problemOf makes the problem that is a part of another body.
func problemOf(r *http.Request, status int, code, message string) problem {
	return problem{Error: message, Code: code, Title: http.StatusText(status), Status: status, RequestID: requestID(r.Context())}
}

// ready is a body that is not to be made into JSON.
type ready interface{ write(w http.ResponseWriter) }

// write sends a body: a ready one as it is, anything else as JSON.
func (a *API) write(w http.ResponseWriter, r *http.Request, status int, body any) {
	if b, ok := body.(ready); ok {
		b.write(w)
		return
	}
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false) // it is never read as HTML, and people read code in it
	if err := encoder.Encode(body); err != nil {
		a.logFailure(r, "an answer could not be encoded", err)
		a.writeProblem(w, r, internalProblem(r))
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the client may be gone
}

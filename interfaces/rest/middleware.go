package rest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"
)

// trace is what the log says of a request beside the request itself.
type trace struct {
	id    uuid.UUID
	route string // the path as the table of routes has it, so that no id and no secret gets into the log; empty for none
}

type traceKey struct{}

// traceOf returns the trace of a request. Outside of one it is empty.
func traceOf(ctx context.Context) *trace {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		return t
	}
	return &trace{}
}

func requestID(ctx context.Context) uuid.UUID { return traceOf(ctx).id }

// identify gives every request an id: the caller's own when it is a UUID, so that callers can follow their requests
// through the log. Events carry it as their correlation id.
func (a *API) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := parseID(r.Header.Get("X-Request-Id"))
		if !ok || id == uuid.Nil {
			id = uuid.New()
		}
		w.Header().Set("X-Request-Id", id.String())
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), traceKey{}, &trace{id: id})))
	})
}

// observe logs every request once it is answered, and answers for handlers that panic.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &recorder{ResponseWriter: w}
		start := time.Now()
		defer a.logAccess(recorder, r, start)
		defer a.recoverPanic(recorder, r)
		next.ServeHTTP(recorder, r)
	})
}

// logAccess writes a line for each request. Health checks that are well come every few seconds for ever: they are for
// those who ask for everything.
func (a *API) logAccess(w *recorder, r *http.Request, start time.Time) {
	t := traceOf(r.Context())
	level := slog.LevelInfo
	if t.route == healthPath && w.status == http.StatusOK {
		level = slog.LevelDebug
	}
	a.logger.LogAttrs(r.Context(), level, "request",
		slog.String("method", shorten(r.Method)), slog.String("route", t.route), slog.Int("status", w.status), slog.Int64("bytes", w.bytes),
		slog.Duration("duration", time.Since(start)), slog.Any("request_id", t.id))
}

func (a *API) recoverPanic(w *recorder, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) { // net/http's own way to cut a connection
		panic(cause)
	}
	a.logger.LogAttrs(r.Context(), slog.LevelError, "a handler panicked",
		slog.Any("panic", cause), slog.String("stack", string(debug.Stack())), slog.Any("request_id", requestID(r.Context())))
	if w.status == 0 {
		a.writeProblem(w, r, internalProblem(r))
	}
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// secure sets what keeps browsers from making more of an answer than it is. Pages replace the policy by their own.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// allowOrigins lets pages of these web origins call and read answers. Credentials never travel in cookies, so there is
// nothing to allow beside the headers.
func allowOrigins(origins []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if !slices.Contains(origins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Idempotent-Replayed, Link, Location, Preference-Applied, Retry-After, X-Request-Id, X-VoltRun-As-Of, X-VoltRun-Execution-Id, X-VoltRun-Log-Tail, X-VoltRun-Status")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Prefer, X-API-Key, X-Request-Id")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

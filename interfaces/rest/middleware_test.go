package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// serveOne answers one request through the middleware and returns the answer and what was logged.
func serveOne(t *testing.T, r *http.Request, answer func(a *API, w http.ResponseWriter, r *http.Request)) (*httptest.ResponseRecorder, string) {
	t.Helper()
	var logged bytes.Buffer
	a := &API{logger: slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		traceOf(r.Context()).route = "/api/things/{id}"
		answer(a, w, r)
	})
	w := httptest.NewRecorder()
	a.identify(a.observe(secure(allowOrigins([]string{DefaultDevOrigin}, inner)))).ServeHTTP(w, r)
	return w, logged.String()
}

func fine(_ *API, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("fine")) }

func TestEveryRequestHasAnID(t *testing.T) {
	t.Parallel()
	own := uuid.NewString()
	for sent, kept := range map[string]bool{
		own: true, "": false, "1": false, uuid.Nil.String(): false, "{" + own + "}": false, own + "0": false, strings.ReplaceAll(own, "-", ""): false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Request-Id", sent)
		w, logged := serveOne(t, r, fine)
		id := w.Header().Get("X-Request-Id")
		_, ok := parseID(id)
		require.True(t, ok)
		require.Equal(t, kept, id == sent)
		require.Contains(t, logged, id)
	}
}

func TestTheAccessLogTellsWhatHappenedAndNoSecret(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/api/things/7?token=hush", strings.NewReader("hush"))
	r.Header.Set("Authorization", "Bearer hush")
	_, logged := serveOne(t, r, func(a *API, w http.ResponseWriter, r *http.Request) {
		a.write(w, r, http.StatusCreated, map[string]string{"key": "hush"})
	})
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(logged), &line))
	require.Equal(t, "POST", line["method"])
	require.Equal(t, "/api/things/{id}", line["route"])
	require.EqualValues(t, 201, line["status"])
	require.EqualValues(t, len(`{"key":"hush"}`)+1, line["bytes"])
	require.NotContains(t, logged, "hush")
}

func TestAPanicIsAnsweredAndLoggedWithItsStack(t *testing.T) {
	t.Parallel()
	w, logged := serveOne(t, httptest.NewRequest("GET", "/", nil), func(*API, http.ResponseWriter, *http.Request) {
		panic("the plumbing broke")
	})
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.NotContains(t, w.Body.String(), "plumbing")
	require.Contains(t, w.Body.String(), w.Header().Get("X-Request-Id"))
	require.Contains(t, logged, "the plumbing broke")
	require.Contains(t, logged, "middleware_test.go")
	require.Contains(t, logged, `"status":500`)
}

func TestAPanicAfterTheAnswerBeganAddsNothing(t *testing.T) {
	t.Parallel()
	w, logged := serveOne(t, httptest.NewRequest("GET", "/", nil), func(a *API, w http.ResponseWriter, r *http.Request) {
		fine(a, w, r)
		panic("too late")
	})
	require.Equal(t, "fine", w.Body.String())
	require.Contains(t, logged, "too late")
}

func TestErrorsBecomeStatusesAndNothingInternalIsShown(t *testing.T) {
	t.Parallel()
	secret := errors.New("SELECT * FROM secrets")
	for _, c := range []struct {
		err    error
		status int
		logged bool
	}{
		{domain.Errorf(domain.Invalid, "No."), 400, false},
		{domain.Errorf(domain.Unauthorized, "No."), 401, false},
		{domain.Errorf(domain.NotFound, "No."), 404, false},
		{domain.Errorf(domain.Conflict, "No."), 409, false},
		{domain.Errorf(domain.KeyReused, "No."), 422, false},
		{domain.Errorf(domain.TooLarge, "No."), 413, false},
		{domain.Errorf(domain.Busy, "No."), 429, false},
		{domain.Errorf(domain.Unavailable, "No."), 503, false},
		{fmt.Errorf("%w: %w", secret, domain.Errorf(domain.NotFound, "No.")), 404, false},
		{fmt.Errorf("%w: %w", secret, context.DeadlineExceeded), 503, false},
		{fmt.Errorf("%w: %w", secret, &net.OpError{Op: "dial", Err: errors.New("refused")}), 503, true},
		{secret, 500, true},
	} {
		w, logged := serveOne(t, httptest.NewRequest("GET", "/", nil), func(a *API, w http.ResponseWriter, r *http.Request) {
			a.refuse(w, r, c.err)
		})
		var body problem
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		require.Equal(t, c.status, w.Code)
		require.Equal(t, c.status, body.Status)
		require.Equal(t, http.StatusText(c.status), body.Title)
		require.NotEmpty(t, body.Error)
		require.NotContains(t, w.Body.String(), "SELECT")
		require.Equal(t, c.logged, strings.Contains(logged, "SELECT"), logged)
		require.Equal(t, c.status == 401, w.Header().Get("WWW-Authenticate") != "")
		require.Equal(t, c.status == 503 || c.status == 429, w.Header().Get("Retry-After") != "")
	}
}

func TestBrowsersAreToldToMakeNothingMoreOfAnAnswer(t *testing.T) {
	t.Parallel()
	w, _ := serveOne(t, httptest.NewRequest("GET", "/", nil), fine)
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "DENY", w.Header().Get("X-Frame-Options"))
	require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
}

func TestOnlyConfiguredOriginsMayCall(t *testing.T) {
	t.Parallel()
	for origin, allowed := range map[string]bool{
		DefaultDevOrigin: true, "": false, "null": false, "http://localhost:3001": false, "https://evil.example": false,
		DefaultDevOrigin + ".evil.example": false,
	} {
		for _, method := range []string{"GET", "OPTIONS"} {
			r := httptest.NewRequest(method, "/api/functions", nil)
			r.Header.Set("Origin", origin)
			r.Header.Set("Access-Control-Request-Method", "PUT")
			w, _ := serveOne(t, r, fine)
			require.Equal(t, allowed, w.Header().Get("Access-Control-Allow-Origin") != "", origin)
			require.Contains(t, w.Header().Values("Vary"), "Origin")
			require.Equal(t, allowed && method == "OPTIONS", w.Code == http.StatusNoContent)
			require.Equal(t, allowed && method == "OPTIONS", strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "X-API-Key"))
		}
	}
}

package rest_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
	"github.com/voltrun/voltrun/projections"
)

func TestHealthTellsHowEveryPartIs(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	got := newClient(t, s.Server).do("GET", "/health", nil, 200)
	require.Subset(t, got, object{
		"status": "ok", "version": resttest.Version, "store": object{"status": "ok"}, "log": object{"head": float64(s.Head(t))},
		"runtimes": []any{"nodejs", "python"}, "executions": object{"running": 0.0, "slots": 4.0, "waiting": 0.0},
	})
	require.NotContains(t, got, "error")
	require.Len(t, got["projections"], len(projections.All()))
	for _, p := range got["projections"].([]any) {
		require.Subset(t, p, object{"state": "following", "lag": 0.0})
	}
}

func TestHealthSaysThatTheStoreDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t, func(c *rest.Config) {
		c.Health.Ping = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
	})
	start := time.Now()
	got := newClient(t, s).do("GET", "/health", nil, 503)
	require.Less(t, time.Since(start), 2*time.Second)
	require.Equal(t, "unavailable", got["status"])
	require.Equal(t, object{"status": "unavailable"}, got["store"])
	require.Contains(t, got["error"], "store")
}

func TestHealthSaysWhichProjectionStandsStillAndNotInSQL(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, err := s.Store.Pool().Exec(t.Context(), "alter table functions rename column name to label")
	require.NoError(t, err)
	s.call("POST", "/api/functions", `{"name":"n","runtime":"nodejs","code":"c"}`)
	var got answer
	require.Eventually(t, func() bool {
		got = s.call("GET", "/health", "")
		return got.StatusCode == 503 && decode[object](t, got)["error"] == `The projection "functions" is paused.`
	}, 20*time.Second, 10*time.Millisecond)
	require.NotRegexp(t, internals, string(got.body))
	require.NotContains(t, string(got.body), "column")
	for _, p := range decode[object](t, got)["projections"].([]any) {
		if name := p.(object)["name"]; name == "functions" {
			require.Equal(t, "paused", p.(object)["state"])
			require.NotEmpty(t, p.(object)["error"])
		} else {
			require.Equal(t, "following", p.(object)["state"], name)
		}
	}
}

// safeBuffer is a buffer that handlers write and a test reads.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestHealthSaysThatAProjectionIsBehind(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	release := s.Hold(t, "functions")
	s.call("POST", "/api/functions", `{"name":"n","runtime":"nodejs","code":"c"}`)
	got := newClient(t, s.Server).do("GET", "/health", nil, 503)
	require.Equal(t, `The projection "functions" is behind the log.`, got["error"])
	release()
	s.CatchUp(t)
	newClient(t, s.Server).do("GET", "/health", nil, 200)
}

func TestACommandIsAnsweredAlthoughItsProjectionIsLate(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	s := resttest.Start(t, func(c *rest.Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	c, _ := register(t, s)
	s.CatchUp(t)
	functions, executions := s.Hold(t, "functions"), s.Hold(t, "executions")

	got := c.call("POST", "/api/functions", `{"name":"n","runtime":"nodejs","code":"c"}`)
	require.Contains(t, requireRefusal(t, got, 503, "a function that cannot be shown")["error"], "is saved")
	id := strings.TrimPrefix(got.Header.Get("Location"), "/api/functions/")
	execution := c.execute(id)
	require.Contains(t, log.String(), "answered before the write could be read")

	functions()
	executions()
	s.CatchUp(t)
	require.Equal(t, id, c.do("GET", "/api/functions/"+id, nil, 200)["id"])
	require.Equal(t, "pending", c.do("GET", "/api/executions/"+execution, nil, 200)["status"])
}

func TestASecretThatIsTooShortIsRefused(t *testing.T) {
	t.Parallel()
	_, err := rest.New(rest.Config{JWTSecret: []byte("short")})
	require.ErrorContains(t, err, "at least 32 bytes")
}

package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// busyClient does what users do, and complains of everything that is not as it should be.
type busyClient struct {
	client
	t        *testing.T
	function uuid.UUID
	stop     chan struct{}
	running  sync.WaitGroup
	requests atomic.Int64
}

func startBusyClient(t *testing.T, c client, workers int) *busyClient {
	b := &busyClient{client: c, t: t, stop: make(chan struct{})}
	b.function = c.createFunction(t, "nodejs", "exports.handler = async (event) => event")
	for range workers {
		b.running.Go(func() { b.repeat(b.executeAndLook) })
	}
	b.running.Go(func() { b.repeat(b.makeAndDeleteKey) })
	b.running.Go(func() { b.repeat(b.makeAndDeleteFunction) })
	return b
}

func (b *busyClient) repeat(what func()) {
	for {
		select {
		case <-b.stop:
			return
		default:
			what()
		}
	}
}

// want is a call that has to be answered so.
func (b *busyClient) want(c client, status int, method, path string, body, result any) {
	got, err := c.call(context.Background(), method, path, body, result)
	if err != nil || got != status {
		b.t.Errorf("%s %s answered %d, not %d (%v)", method, path, got, status, err)
	}
	b.requests.Add(1)
}

func (b *busyClient) executeAndLook() {
	var accepted struct {
		ID string `json:"execution_id"`
	}
	b.want(b.client, 201, "POST", "/api/functions/"+b.function.String()+"/execute", map[string]any{"input": 1}, &accepted)
	b.want(b.client, 200, "GET", "/api/executions/"+accepted.ID, nil, nil)
	b.want(b.client, 200, "GET", "/api/executions?limit=5", nil, nil)
}

// makeAndDeleteKey uses a key as soon as it is made, and as soon as it is deleted.
func (b *busyClient) makeAndDeleteKey() {
	var key struct{ ID, Key string }
	b.want(b.client, 201, "POST", "/api/keys", map[string]string{"name": "short-lived"}, &key)
	holder := client{b.url, key.Key}
	b.want(holder, 200, "GET", "/api/auth/me", nil, nil)
	b.want(b.client, 200, "DELETE", "/api/keys/"+key.ID, nil, nil)
	for range 3 {
		b.want(holder, 401, "GET", "/api/auth/me", nil, nil)
	}
}

func (b *busyClient) makeAndDeleteFunction() {
	var function struct{ ID string }
	b.want(b.client, 201, "POST", "/api/functions", map[string]string{"name": "f", "runtime": "nodejs", "code": "c"}, &function)
	b.want(b.client, 200, "PUT", "/api/functions/"+function.ID, map[string]string{"name": "g"}, nil)
	var read struct{ Name string }
	b.want(b.client, 200, "GET", "/api/functions/"+function.ID, nil, &read)
	if read.Name != "g" {
		b.t.Errorf("a stale answer: the function is called %q", read.Name)
	}
	b.want(b.client, 200, "DELETE", "/api/functions/"+function.ID, nil, nil)
	b.want(b.client, 404, "GET", "/api/functions/"+function.ID, nil, nil)
}

func TestClientsOfAServerThatRebuildsNoticeNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t, "VOLTRUN_SLOTS=2")
	s.start(t)
	c := s.register(t)
	s.appendLines(t, pastLines)
	s.awaitHealthy(t)
	busy, operator := startBusyClient(t, c, 6), s.operator(t)
	start := time.Now()
	for _, name := range projectionNames() {
		rebuild := "/api/admin/projections/" + name + "/rebuild"
		operator.must(t, http.StatusAccepted, "POST", rebuild, nil, nil)
		require.Eventually(t, func() bool {
			var progress struct{ State, Error string }
			operator.must(t, http.StatusOK, "GET", rebuild, nil, &progress)
			require.NotContains(t, []string{"failed", "cancelled"}, progress.State, progress.Error)
			return progress.State == "done"
		}, time.Minute, 10*time.Millisecond)
		// Health is a lag of less than a second.
		require.Eventually(t, func() bool {
			status, err := c.call(context.Background(), "GET", "/health", nil, nil)
			return err == nil && status == http.StatusOK
		}, 10*time.Second, 20*time.Millisecond)
	}
	took := time.Since(start)
	close(busy.stop)
	busy.running.Wait()
	t.Logf("%.0f requests/s while %s were rebuilt in %s", float64(busy.requests.Load())/took.Seconds(), strings.Join(projectionNames(), ", "), took)
	require.NotContains(t, s.run(t, "projections", "verify"), "DIFFERENT")
}

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkExecute asks for executions and looks at them until they have ended: alone, and many at once beside the floor,
// which answers its calls.
func BenchmarkExecute(b *testing.B) {
	s, _, key, function := newBenchServer(b)
	url, _ := s.startFloor(b)
	c := client{s.url(), key}
	for b.Loop() {
		one := callFor(b, 1, invokeRound, func(*http.Client) error { return c.executeAndSee(function.String()) })
		b.Logf("accepted to completed and readable, 1 client: %s", one)
		floor := callFor(b, 32, invokeRound, post(url, "", []byte(`{"n":1}`), http.StatusOK))
		rate := c.executeMany(b, function.String(), 32, invokeRound)
		b.Logf("accepted to completed and readable, 32 clients: %.0f/s, floor %.0f/s: %.2f of it", rate, floor.rate, rate/floor.rate)
		b.ReportMetric(float64(one.median.Microseconds())/1000, "ms@1")
		b.ReportMetric(rate/floor.rate, "of-floor@32")
	}
}

// executeAndSee asks for an execution and looks at it until it has ended.
func (c client) executeAndSee(function string) error {
	var accepted struct {
		ExecutionID string `json:"execution_id"`
	}
	body := map[string]any{"input": map[string]int{"n": 1}}
	if _, err := c.call(context.Background(), "POST", "/api/functions/"+function+"/execute", body, &accepted); err != nil {
		return err
	}
	for {
		var x execution
		if _, err := c.call(context.Background(), "GET", "/api/executions/"+accepted.ExecutionID, nil, &x); err != nil || x.ended() {
			return err
		}
	}
}

// executeMany asks for executions as fast as clients can, and returns how many a second had ended and could be read, from the
// first request to the last end.
func (c client) executeMany(b *testing.B, function string, clients int, round time.Duration) (rate float64) {
	b.Helper()
	began := time.Now()
	var accepted atomic.Int64
	call := post(c.url+"/api/functions/"+function+"/execute", c.bearer, []byte(`{"input":{"n":1}}`), http.StatusCreated)
	http := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}}
	defer http.CloseIdleConnections()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for time.Since(began) < round {
				if err := call(http); err != nil {
					b.Error(err)
					return
				}
				accepted.Add(1)
			}
		})
	}
	all.Wait()
	require.Eventually(b, func() bool {
		var unfinished json.RawMessage
		for _, status := range []string{"pending", "running"} {
			_, err := c.call(context.Background(), "GET", "/api/executions?limit=1&status="+status, nil, &unfinished)
			if err != nil || string(unfinished) != "[]" {
				return false
			}
		}
		return true
	}, time.Minute, 5*time.Millisecond)
	return float64(accepted.Load()) / time.Since(began).Seconds()
}

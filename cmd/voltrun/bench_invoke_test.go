package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// The bars of invocations, as ratios to the floor, and how long a round is.
const (
	leastOfFloor     = 0.5
	mostLatency      = 3.0
	mostAsyncLatency = 5 * time.Millisecond
	invokeRound      = 4 * time.Second
	invokeRounds     = 3
)

// startFloor starts the floor beside a server, on the same Postgres.
func (s *server) startFloor(b *testing.B) (url string, pid int) {
	b.Helper()
	socket := s.socket(b)
	port := freePort(b)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asFloor+"="+fmt.Sprintf("host=%s port=%s user=voltrun dbname=postgres", socket...), "PORT="+port)
	cmd.Stderr = b.Output()
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(b, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return "http://127.0.0.1:" + port + "/invoke/1", cmd.Process.Pid
}

// pace is what clients saw who called as fast as they could.
type pace struct {
	rate      float64 // calls a second
	median    time.Duration
	p99       time.Duration
	latencies []time.Duration
}

func (l pace) String() string {
	return fmt.Sprintf("%6.0f/s  median %7s  p99 %7s", l.rate, l.median.Round(time.Microsecond), l.p99.Round(time.Microsecond))
}

// call lets clients call for a while.
func callFor(b *testing.B, clients int, round time.Duration, call func(*http.Client) error) pace {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	seen := make([][]time.Duration, clients)
	began := time.Now()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for time.Since(began) < round {
				start := time.Now()
				if err := call(client); err != nil {
					b.Error(err)
					return
				}
				seen[i] = append(seen[i], time.Since(start))
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	latencies := slices.Concat(seen...)
	require.NotEmpty(b, latencies)
	slices.Sort(latencies)
	return pace{float64(len(latencies)) / took.Seconds(), latencies[len(latencies)/2], latencies[len(latencies)*99/100], latencies}
}

func post(url, key string, body []byte, status int) func(*http.Client) error {
	return func(client *http.Client) error {
		request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		if key != "" {
			request.Header.Set("X-API-Key", key)
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != status {
			err = fmt.Errorf("%s: %s", response.Status, answer)
		}
		return err
	}
}

// benchServer is a server with a function that does nothing but print a line, called with an API key.
func newBenchServer(b *testing.B) (s *server, c client, key string, function uuid.UUID) {
	s = newServer(b)
	s.start(b)
	c = s.register(b)
	var made struct {
		Key string `json:"key"`
	}
	c.must(b, http.StatusCreated, http.MethodPost, "/api/keys", map[string]any{"name": "bench"}, &made)
	return s, c, made.Key, c.createFunction(b, "nodejs", "exports.handler = async (event) => { console.log('called'); return { n: event.n + 1 } }")
}

// BenchmarkInvoke calls a warm function through HTTP with an API key, isolated and with everything recorded, beside the
// floor.
func BenchmarkInvoke(b *testing.B) {
	s, _, key, function := newBenchServer(b)
	url, floorPID := s.startFloor(b)
	floor := post(url, "", []byte(`{"n":1}`), http.StatusOK)
	postgres, err := s.postgresPID()
	require.NoError(b, err)
	voltrun := post(s.url()+"/api/functions/"+function.String()+"/invoke", key, []byte(`{"n":1}`), http.StatusOK)
	for b.Loop() {
		for _, clients := range []int{1, 8, 32} {
			f, v := bestOf(b, clients, floor, voltrun)
			if clients == 32 {
				for name, c := range map[string]struct {
					call func(*http.Client) error
					pid  int
				}{"floor": {floor, floorPID}, "VoltRun": {voltrun, s.process.Process.Pid}} {
					before := cpuOf(c.pid, postgres)
					l := callFor(b, clients, invokeRound, c.call)
					time.Sleep(300 * time.Millisecond) // what follows the log catches up
					b.Logf("%s: %s", name, perCall(before, cpuOf(c.pid, postgres), len(l.latencies)))
				}
			}
			b.Logf("floor    %2d clients %s", clients, f)
			b.Logf("VoltRun  %2d clients %s  %.2f of the floor, %.2f of its median", clients, v, v.rate/f.rate, float64(v.median)/float64(f.median))
			switch clients {
			case 1:
				b.ReportMetric(float64(v.median)/float64(f.median), "x-floor-median@1")
			case 32:
				b.ReportMetric(v.rate/f.rate, "of-floor@32")
			}
		}
	}
}

// bestOf lets both be called in turns, and returns the round of each with the highest rate.
func bestOf(b *testing.B, clients int, calls ...func(*http.Client) error) (one, other pace) {
	b.Helper()
	best := make([]pace, len(calls))
	for range invokeRounds {
		for i, call := range calls {
			if l := callFor(b, clients, invokeRound, call); l.rate > best[i].rate {
				best[i] = l
			}
		}
	}
	return best[0], best[1]
}

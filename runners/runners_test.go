package runners

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// The pools are shared by all tests: finding the interpreters takes longer than a run.
var (
	runner *Pool // in the sandbox that functions run in by default
	plain  *Pool // in plain processes, which the host's tools see under their own numbers; each for one run
	reused *Pool // in plain processes that are reused all the same
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	work := m.Run
	if umask := os.Getenv(serverOfItsOwn); umask != "" {
		work = serve
		setUmask(umask)
	}
	_ = os.Setenv("VOLTRUN_TEST_SECRET", "do not leak")
	closePools, err := openPools()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := work()
	closePools()
	os.Exit(code)
}

func openPools() (func(), error) {
	processes, err := sandbox.NewProcesses()
	if err != nil {
		return nil, err
	}
	isolated, err := sandbox.Choose(context.Background(), "bwrap", sandbox.Options{})
	if err != nil {
		return nil, err
	}
	runtimes := DiscoverRuntimes(context.Background())
	var closers []func() error
	for _, pool := range []struct {
		opened *(*Pool)
		driver sandbox.Driver
		reuse  bool
	}{{&runner, isolated, false}, {&plain, processes, false}, {&reused, processes, true}} {
		if *pool.opened, err = newPool(PoolConfig{Driver: pool.driver, Runtimes: runtimes, Logger: quiet, Stems: 2}.withDefaults(), pool.reuse); err != nil {
			return nil, err
		}
		closers = append(closers, (*pool.opened).Close)
	}
	return func() {
		for _, closeIt := range append(closers, processes.Close, isolated.Close) {
			if err := closeIt(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}, nil
}

// function is a function with the defaults of the wire contract.
func function(runtime, code string) domain.Function {
	return domain.Function{
		ID: uuid.New(), AccountID: uuid.New(), Version: 3, Name: "greet", Runtime: runtime, Code: code, Status: domain.FunctionActive,
		EntryPoint: domain.DefaultEntryPoint, MemoryMB: domain.DefaultMemoryMB, TimeoutSec: domain.DefaultTimeoutSec,
	}
}

// recorded is what a run printed and how it ended.
type recorded struct {
	end   domain.Event
	lines []domain.ExecutionLogLine
}

func run(t *testing.T, f domain.Function, input string) recorded {
	t.Helper()
	return runOn(t.Context(), runner, f, input)
}

func runOn(ctx context.Context, pool *Pool, f domain.Function, input string) recorded {
	var r recorded
	r.end = pool.Run(ctx, Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(input)}, func(line domain.ExecutionLogLine) {
		r.lines = append(r.lines, line)
	})
	return r
}

// text returns what was printed to a stream, a line each.
func (r recorded) text(stream domain.LogStream) []string {
	var text []string
	for _, line := range r.lines {
		if line.Stream == stream {
			text = append(text, line.Text)
		}
	}
	return text
}

// output returns what the handler returned.
func (r recorded) output(t *testing.T) string {
	t.Helper()
	completed, ok := r.end.(domain.ExecutionCompleted)
	require.True(t, ok, "the run should have succeeded, but ended as %+v with log %v", r.end, r.lines)
	return string(completed.Output)
}

func (r recorded) failure(t *testing.T) domain.ExecutionFailed {
	t.Helper()
	failed, ok := r.end.(domain.ExecutionFailed)
	require.True(t, ok, "the run should have failed, but ended as %+v", r.end)
	return failed
}

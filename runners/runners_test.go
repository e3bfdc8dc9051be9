package runners

import (
	"context"
	"encoding/json"
	"errors"
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
	work, open := m.Run, openPools
	if umask := os.Getenv(serverOfItsOwn); umask != "" {
		work, open = serve, openPlain
		setUmask(umask)
	}
	_ = os.Setenv("VOLTRUN_TEST_SECRET", "do not leak")
	code := 1
	err := open(DiscoverRuntimes(context.Background()))
	if err == nil {
		code = work()
	}
	if err = errors.Join(err, closePools()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func openPools(runtimes *Runtimes) error {
	isolated, err := sandbox.Choose(context.Background(), "bwrap", sandbox.Options{})
	if err == nil {
		runner, err = newPool(testConfig(isolated, runtimes), false)
	}
	if err == nil {
		err = openPlain(runtimes)
	}
	if err == nil {
		reused, err = newPool(testConfig(plain.config.Driver, runtimes), true)
	}
	return err
}

func openPlain(runtimes *Runtimes) error {
	processes, err := sandbox.NewProcesses()
	if err == nil {
		plain, err = newPool(testConfig(processes, runtimes), false)
	}
	return err
}

func testConfig(driver sandbox.Driver, runtimes *Runtimes) PoolConfig {
	return PoolConfig{Driver: driver, Runtimes: runtimes, Stems: 2, MaxProcesses: 24}.withDefaults()
}

func closePools() (err error) {
	for _, pool := range []*Pool{reused, plain, runner} {
		if pool == nil {
			continue
		}
		err = errors.Join(err, pool.Close())
		if pool != reused { // whose driver is that of plain
			err = errors.Join(err, pool.config.Driver.Close())
		}
	}
	return err
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

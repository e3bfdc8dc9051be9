package cli_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/interfaces/cli"
	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
	"github.com/voltrun/voltrun/runners"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// worker runs every execution of a server, one after the other.
type worker struct {
	*resttest.Server
	run func(context.Context, runners.Invocation, func(domain.ExecutionLogLine)) domain.Event
}

func (w worker) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	wake, unsubscribe := w.Store.Subscribe()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		var seen eventstore.Position
		for ctx.Err() == nil {
			seen = w.catchUp(ctx, t, seen)
			select {
			case <-wake:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { cancel(); unsubscribe(); <-stopped })
}

func (w worker) catchUp(ctx context.Context, t *testing.T, seen eventstore.Position) eventstore.Position {
	for event, err := range w.Store.ReadAll(ctx, seen) {
		if err != nil {
			return seen
		}
		seen = event.Position
		if event.Type == (domain.ExecutionRequested{}).EventType() {
			w.execute(ctx, t, event.StreamID)
		}
	}
	return seen
}

func (w worker) execute(ctx context.Context, t *testing.T, id uuid.UUID) {
	attempt, err := w.Commands.ClaimExecution.Handle(ctx, id, uuid.New())
	if err != nil {
		t.Errorf("claim execution %s: %v", id, err)
		return
	}
	invocation := runners.Invocation{ExecutionID: id, Function: attempt.Function, Input: attempt.Execution.Input}
	var lines []domain.ExecutionLogLine
	end := w.run(ctx, invocation, func(line domain.ExecutionLogLine) { lines = append(lines, line) })
	if err := w.Commands.ReportExecution.Handle(ctx, attempt, lines, end); err != nil {
		t.Errorf("report execution %s: %v", id, err)
	}
}

func TestTheDemoRunsTheExamplesAndShowsWhatHappens(t *testing.T) {
	t.Parallel()
	driver, err := sandbox.NewProcesses()
	require.NoError(t, err)
	runner, err := runners.NewPool(runners.PoolConfig{Driver: driver, Runtimes: runners.DiscoverRuntimes(t.Context()), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, runner.Close()) })
	server := resttest.Start(t)
	worker{server, runner.Run}.start(t)

	var out bytes.Buffer
	require.NoError(t, cli.Demo(t.Context(), server.URL, &out), out.String())
	t.Log("\n" + out.String())
	for _, want := range []string{
		"@example.com", "hello-node (nodejs, hello.js)", "log       Event: { name: 'Ada' }", "hello-python (python, hello.py)",
		"log       Event: {'name': 'Ada'}", "success", `result    {"statusCode":200`, "Hello, Ada!",
	} {
		require.Contains(t, out.String(), want)
	}
}

func TestTheDemoFailsWhenSomethingIsNotAsExpected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  domain.Event
		want string
	}{
		"a failure":     {domain.ExecutionFailed{Error: "boom", ErrorType: "TypeError"}, "TypeError boom"},
		"a wrong reply": {domain.ExecutionCompleted{Output: []byte(`{"statusCode":200,"body":"{\"message\":\"Hello, Bob!\"}"}`)}, "Hello, Bob!"},
		"no reply":      {domain.ExecutionCompleted{Output: []byte(`7`)}, `answered ""`},
		"no log":        {domain.ExecutionCompleted{Output: []byte(`{"statusCode":200,"body":"{\"message\":\"Hello, Ada!\"}"}`)}, "does not show"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := resttest.Start(t)
			worker{server, func(context.Context, runners.Invocation, func(domain.ExecutionLogLine)) domain.Event { return c.end }}.start(t)
			require.ErrorContains(t, cli.Demo(t.Context(), server.URL, &bytes.Buffer{}), c.want)
		})
	}
}

func TestTheDemoSaysWhichRuntimeIsMissing(t *testing.T) {
	t.Parallel()
	server := resttest.Start(t, func(c *rest.Config) { c.Health.Runtimes = []string{"nodejs"} })
	before := server.Head(t)
	require.ErrorContains(t, cli.Demo(t.Context(), server.URL, &bytes.Buffer{}), "has no python")
	require.Equal(t, before, server.Head(t))
}

func TestTheDemoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := resttest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	// Nobody works here, so the execution stays pending.
	time.AfterFunc(time.Second, cancel)
	require.ErrorIs(t, cli.Demo(ctx, server.URL, &bytes.Buffer{}), context.Canceled)
}

func TestProjectionsStatusShowsEveryProjection(t *testing.T) {
	t.Parallel()
	server := resttest.Start(t)
	var out strings.Builder
	require.NoError(t, cli.ProjectionsStatus(t.Context(), server.URL, "", &out))
	for _, want := range []string{"PROJECTION", "accounts", "functions", "executions", "keys", "following", "(log)"} {
		require.Contains(t, out.String(), want)
	}
}

func TestProjectionsStatusShowsTheTableOfAServerThatIsNotWell(t *testing.T) {
	t.Parallel()
	server := resttest.Start(t)
	server.Hold(t, "accounts")
	_, err := cli.NewClient(server.URL).Register(t.Context(), "ada@example.com", "lovelace", "Ada")
	require.NoError(t, err)
	var out strings.Builder
	require.ErrorContains(t, cli.ProjectionsStatus(t.Context(), server.URL, "", &out), "behind")
	require.Contains(t, out.String(), "accounts")
}

func TestWhoeverDoesNotAnswerAsVoltRunIsNamed(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	t.Cleanup(page.Close)
	absent := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(absent.Close)
	for url, want := range map[string]string{
		closed.URL: "no VoltRun server answers at " + closed.URL, page.URL: "is not VoltRun's", absent.URL: "404 Not Found", "::": "not the address",
	} {
		for _, command := range []func() error{
			func() error { return cli.ProjectionsStatus(t.Context(), url, "", &bytes.Buffer{}) },
			func() error { return cli.Demo(t.Context(), url, &bytes.Buffer{}) },
		} {
			require.ErrorContains(t, command(), want)
		}
	}
}

func TestARefusalKeepsItsStatusAndSentence(t *testing.T) {
	t.Parallel()
	client := cli.NewClient(resttest.Start(t).URL + "/")
	_, err := client.WithToken("garbage").CreateFunction(t.Context(), "n", "nodejs", "c")
	var refused *cli.APIError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusUnauthorized, refused.Status)
	require.Contains(t, refused.Message, "access token")
}

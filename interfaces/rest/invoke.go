package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
)

// Executor runs executions in this process. Without one, what is accepted waits for a process that has one.
type Executor interface {
	// TryEnter returns a place for a run of the function when there is one at once, or nil.
	TryEnter(function domain.Function) (Place, error)
	// Enter waits for a place.
	Enter(ctx context.Context, function domain.Function) (Place, error)
	// Offer shows an execution that was accepted and waits.
	Offer(accepted commands.Accepted)
	// Watch returns a channel that gets the execution's outcome if it ends here from now on.
	Watch(executionID uuid.UUID) (outcome <-chan domain.Outcome, cancel func())
}

// Place is room for one execution.
type Place interface {
	commands.Place
	Outcome() <-chan domain.Outcome
}

// How the answer to a call that waits says what it is about.
const (
	executionHeader = "X-VoltRun-Execution-Id"
	statusHeader    = "X-VoltRun-Status"
	logTailHeader   = "X-VoltRun-Log-Tail" // base64
)

// started is an execution that was accepted, and where its outcome is told when it runs here already.
type started struct {
	commands.Accepted
	outcome <-chan domain.Outcome // nil when nobody waits for it here
	unwatch func()
}

func (s started) id() uuid.UUID { return s.Attempt.Execution.ID }

// begin accepts an execution, and watches it when somebody waits for its end; unwatch has to be called then. A request that may be carried out again later never begins one itself: that would run it
// twice.
func (a *API) begin(
	ctx context.Context, r *request, input json.RawMessage, watch bool, enter func(context.Context, domain.Function) (Place, error),
) (s started, err error) {
	s.unwatch = func() {}
	functionID, err := r.pathID("function")
	if err != nil {
		return s, err
	}
	s.Accepted, err = r.commands.RequestExecution.Begin(ctx, r.origin(), domain.RequestExecution{
		AccountID: r.caller.accountID, FunctionID: functionID, Input: input,
	}, func(ctx context.Context, function domain.Function) (commands.Place, error) {
		if r.repeatable || a.executor == nil {
			return nil, nil
		}
		place, err := enter(ctx, function)
		if place == nil || err != nil {
			return nil, err
		}
		s.outcome = place.Outcome()
		return place, nil
	})
	if err == nil && s.outcome == nil && a.executor != nil {
		if watch {
			s.outcome, s.unwatch = a.executor.Watch(s.id())
		}
		a.executor.Offer(s.Accepted)
	}
	return s, err
}

func (a *API) enterAtOnce(_ context.Context, function domain.Function) (Place, error) {
	return a.executor.TryEnter(function)
}

func (a *API) enterInTurn(ctx context.Context, function domain.Function) (Place, error) {
	return a.executor.Enter(ctx, function)
}

type acceptedBody struct {
	ExecutionID uuid.UUID              `json:"execution_id"`
	Status      domain.ExecutionStatus `json:"status"`
	Message     string                 `json:"message"`
	*endBody
}

// endBody is how an execution ended that somebody waited for.
type endBody struct {
	Output     json.RawMessage `json:"output,omitempty"`
	Error      string          `json:"error,omitempty"`
	ErrorType  string          `json:"error_type,omitempty"`
	Stack      string          `json:"stack,omitempty"`
	DurationMS int64           `json:"duration_ms"`
	MemoryMB   int             `json:"memory_used"`
}

func (a *API) execute(ctx context.Context, r *request) (int, any, error) {
	var body struct {
		Input json.RawMessage `json:"input"`
	}
	if err := r.decodeOptional(&body); err != nil {
		return 0, nil, err
	}
	accepting, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	wait := preferredWait(r.Header)
	s, err := a.begin(accepting, r, body.Input, wait > 0, a.enterAtOnce)
	if err != nil {
		return 0, nil, err
	}
	defer s.unwatch()
	r.response.Set("Location", "/api/executions/"+s.id().String())
	answer := acceptedBody{
		ExecutionID: s.id(), Status: domain.ExecutionPending,
		Message: "The execution was accepted. GET /api/executions/" + s.id().String() + " tells how it goes.",
	}
	if wait > 0 {
		r.response.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
		answer.Status, answer.endBody = a.awaitEnd(ctx, s, wait)
	}
	a.invoked.Add(r.caller.accountID, time.Now())
	return http.StatusCreated, answer, nil
}

// awaitEnd waits for an execution's end, as long as that is wanted.
func (a *API) awaitEnd(ctx context.Context, s started, wait time.Duration) (domain.ExecutionStatus, *endBody) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	outcome, err := a.outcome(ctx, s)
	if err != nil {
		return domain.ExecutionPending, nil
	}
	switch end := outcome.End.(type) {
	case domain.ExecutionCompleted:
		return domain.ExecutionSuccess, &endBody{Output: end.Output, DurationMS: end.DurationMS, MemoryMB: end.MemoryMB}
	case domain.ExecutionFailed:
		return domain.ExecutionFailure, &endBody{
			Error: end.Error, ErrorType: end.ErrorType, Stack: end.Stack, DurationMS: end.DurationMS, MemoryMB: end.MemoryMB,
		}
	}
	return domain.ExecutionPending, nil
}

// maxWait bounds what a client may prefer to wait.
const maxWait = domain.MaxTimeoutSec * time.Second

var waitPreference = regexp.MustCompile(`(?i)(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:[;,]|$)`)

// preferredWait reads the preference "wait" (RFC 7240), or 0. A preference that makes no sense is to be ignored.
func preferredWait(h http.Header) time.Duration {
	for _, value := range h.Values("Prefer") {
		if match := waitPreference.FindStringSubmatch(value); match != nil {
			seconds, _ := strconv.Atoi(match[1]) // nine digits at most
			return min(time.Duration(seconds)*time.Second, maxWait)
		}
	}
	return 0
}

// invokeWithin bounds how long an invocation may take: its turn, the function's longest time, and the records of both.
const invokeWithin = domain.MaxTimeoutSec*time.Second + time.Minute

// invoke runs a function and answers with its output. The body is the input.
func (a *API) invoke(ctx context.Context, r *request) (int, any, error) {
	s, err := a.begin(ctx, r, r.body, true, a.enterInTurn)
	if err != nil {
		return 0, nil, err
	}
	defer s.unwatch()
	r.response.Set(executionHeader, s.id().String())
	defer func() { a.invoked.Add(r.caller.accountID, time.Now()) }()
	outcome, err := a.outcome(ctx, s)
	if err != nil {
		return 0, nil, err
	}
	if outcome.LogTail != "" {
		r.response.Set(logTailHeader, base64.StdEncoding.EncodeToString([]byte(outcome.LogTail)))
	}
	return a.answerOutcome(r, s, outcome)
}

// output is a JSON text that is sent as it is.
type output json.RawMessage

func (o output) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(o)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(o) // the client may be gone
}

func (a *API) answerOutcome(r *request, s started, outcome domain.Outcome) (int, any, error) {
	switch end := outcome.End.(type) {
	case domain.ExecutionCompleted:
		r.response.Set(statusHeader, string(domain.ExecutionSuccess))
		return http.StatusOK, output(end.Output), nil
	case domain.ExecutionFailed:
		r.response.Set(statusHeader, string(domain.ExecutionFailure))
		status := statusOfFailure(end)
		return status, failureBody{
			problem:     problemOf(r.Request, status, "function_failed", end.Error),
			ExecutionID: s.id(), ErrorType: end.ErrorType, Stack: end.Stack,
		}, nil
	}
	return 0, nil, domain.Errorf(domain.Unavailable, "How execution %s ended cannot be told here. GET /api/executions/%s tells it.", s.id(), s.id())
}

// failureBody is the answer to an invocation whose function failed.
type failureBody struct {
	problem
	ExecutionID uuid.UUID `json:"execution_id"`
	ErrorType   string    `json:"error_type"`
	Stack       string    `json:"stack,omitempty"`
}

// statusOfFailure tells apart what the function did from what VoltRun could not do, as a gateway does.
func statusOfFailure(end domain.ExecutionFailed) int {
	switch end.ErrorType {
	case domain.ErrorTimeout:
		return http.StatusGatewayTimeout
	case domain.ErrorInternal, domain.ErrorRuntimeUnavailable, domain.ErrorWorkerLost, domain.ErrorWorkerStopped:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// lookEvery is how often somebody who waits looks whether an execution has ended in another process.
const lookEvery = 250 * time.Millisecond

// outcome waits for the end of an execution, wherever it runs.
func (a *API) outcome(ctx context.Context, s started) (domain.Outcome, error) {
	here := s.outcome
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case outcome := <-here:
			if outcome.End != nil {
				return outcome, nil
			}
			here = nil // it was another process that ended it
		case <-look.C:
			if outcome, ended := a.shownOutcome(ctx, s); ended {
				return outcome, nil
			}
		case <-ctx.Done():
			return domain.Outcome{}, ctx.Err()
		}
	}
}

// maxLogTail is how much of the log an answer carries, in bytes.
const maxLogTail = 4096

// shownOutcome reads the end of an execution from the read model.
func (a *API) shownOutcome(ctx context.Context, s started) (domain.Outcome, bool) {
	x, err := a.queries.Executions.Get(ctx, s.Attempt.Execution.AccountID, s.id())
	if err != nil {
		return domain.Outcome{}, false
	}
	tail := x.Logs[max(0, len(x.Logs)-maxLogTail):]
	switch x.Status {
	case domain.ExecutionSuccess:
		return domain.Outcome{LogTail: tail, End: domain.ExecutionCompleted{Output: x.Output, DurationMS: x.DurationMS, MemoryMB: x.MemoryMB}}, true
	case domain.ExecutionFailure:
		return domain.Outcome{LogTail: tail, End: domain.ExecutionFailed{
			Error: textOf(x.Error), ErrorType: textOf(x.ErrorType), Stack: textOf(x.Stack), DurationMS: x.DurationMS, MemoryMB: x.MemoryMB,
		}}, true
	}
	return domain.Outcome{}, false
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

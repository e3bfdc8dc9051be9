package domain_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/domain/domaintest"
)

// Whoever does what to an execution in whatever order: it is requested once, claimed once, reported on by the worker that
// holds it, and ends once; then nothing is accepted any more.
func TestAnExecutionEndsOnceAndTakesNothingAfterwards(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &executionMachine{workers: []uuid.UUID{uuid.New(), uuid.New()}}
		t.Repeat(map[string]func(*rapid.T){
			"request": m.request,
			"claim":   m.claim,
			"report":  m.report,
			"abandon": m.abandon,
		})
	})
}

// executionMachine knows an execution by what was accepted of it.
type executionMachine struct {
	workers []uuid.UUID
	history []domain.Event
	status  domain.ExecutionStatus // empty before the request
	holder  uuid.UUID              // nil before the claim
}

func (m *executionMachine) state() domain.Execution {
	return domain.Fold[domain.Execution](m.history...)
}

func (m *executionMachine) worker(t *rapid.T) uuid.UUID {
	return rapid.SampledFrom(m.workers).Draw(t, "worker")
}

// become adds what was decided, and requires that the execution is in that state then.
func (m *executionMachine) become(t *rapid.T, status domain.ExecutionStatus, events []domain.Event, err error) {
	require.NoError(t, err)
	m.history = append(m.history, events...)
	m.status = status
	require.Equal(t, status, m.state().Status)
	require.Equal(t, m.holder, m.state().WorkerID)
}

func (m *executionMachine) request(t *rapid.T) {
	cmd := request
	text := domaintest.JSONText().Draw(t, "input")
	cmd.Input = json.RawMessage(text)
	events, err := cmd.Decide(m.state())
	if m.status != "" {
		requireRefused(t, domain.Conflict, events, err)
		return
	}
	m.become(t, domain.ExecutionPending, events, err)
	requireSameJSON(t, text, events[0].(domain.ExecutionRequested).Input)
	requireSameJSON(t, text, m.state().Input)
}

func (m *executionMachine) claim(t *rapid.T) {
	worker := m.worker(t)
	events, err := domain.StartExecution{WorkerID: worker}.Decide(m.state())
	if m.status != domain.ExecutionPending {
		requireRefused(t, domain.Conflict, events, err)
		return
	}
	m.holder = worker
	m.become(t, domain.ExecutionRunning, events, err)
	require.Len(t, events, 1)
}

func (m *executionMachine) report(t *rapid.T) {
	worker, end := m.worker(t), arbitraryEnd(t)
	var lines []domain.ExecutionLogLine
	for _, e := range rapid.SliceOfN(domaintest.EventOf(domain.ExecutionLogLine{}), 0, 3).Draw(t, "lines") {
		lines = append(lines, e.(domain.ExecutionLogLine))
	}
	events, err := domain.ReportExecution{WorkerID: worker, Lines: lines, End: end}.Decide(m.state())
	if m.status != domain.ExecutionRunning || worker != m.holder {
		requireRefused(t, domain.Conflict, events, err)
		return
	}
	m.become(t, statusAfter(end), events, err)
	for i, line := range lines {
		require.Equal(t, line, events[i], "lines keep their order and content")
	}
	if end != nil {
		require.Equal(t, end, events[len(lines)])
	}
}

func (m *executionMachine) abandon(t *rapid.T) {
	gone := rapid.SampledFrom(append([]uuid.UUID{uuid.Nil}, m.workers...)).Draw(t, "gone")
	failure := domain.ExecutionFailed{Error: "The worker is gone.", ErrorType: domain.ErrorWorkerLost}
	events, err := domain.AbandonExecution{WorkerID: gone, Failure: failure}.Decide(m.state())
	unclaimed := m.status == domain.ExecutionPending && gone == uuid.Nil
	held := m.status == domain.ExecutionRunning && gone == m.holder
	if !unclaimed && !held {
		require.NoError(t, err)
		require.Empty(t, events)
		return
	}
	m.become(t, domain.ExecutionFailure, events, err)
	require.Equal(t, []domain.Event{failure}, events)
}

// arbitraryEnd is nil for a report while the handler runs.
func arbitraryEnd(t *rapid.T) domain.Event {
	if rapid.IntRange(0, 2).Draw(t, "runs on") > 0 {
		return nil
	}
	return domaintest.EventOf(domain.ExecutionCompleted{}, domain.ExecutionFailed{}).Draw(t, "end")
}

func statusAfter(end domain.Event) domain.ExecutionStatus {
	switch end.(type) {
	case domain.ExecutionCompleted:
		return domain.ExecutionSuccess
	case domain.ExecutionFailed:
		return domain.ExecutionFailure
	default:
		return domain.ExecutionRunning
	}
}

// requireSameJSON requires that two texts say the same, however they are spaced.
func requireSameJSON(t *rapid.T, want string, got []byte) {
	t.Helper()
	wanted, err := domaintest.Tokens([]byte(want))
	require.NoError(t, err)
	found, err := domaintest.Tokens(got)
	require.NoError(t, err)
	require.Equal(t, wanted, found)
}

// An input is taken as it is or refused; there is no third way.
func TestAnInputIsTakenAsItIsOrRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cmd := request
		valid := domaintest.JSONText().Draw(t, "input")
		cut := rapid.IntRange(0, len(valid)).Draw(t, "cut")
		extra := rapid.SampledFrom([]string{"", " ", "}", "\xff", ",1", "\x00", "nul"}).Draw(t, "extra")
		cmd.Input = json.RawMessage(valid[:cut] + extra + valid[cut:])
		events, err := cmd.Decide(domain.Execution{})
		if !json.Valid(cmd.Input) && len(cmd.Input) > 0 {
			requireRefused(t, domain.Invalid, events, err)
			return
		}
		if err == nil {
			requireSameJSON(t, string(cmd.Input), events[0].(domain.ExecutionRequested).Input)
		} else {
			requireRefused(t, domain.Invalid, events, err)
		}
	})
}

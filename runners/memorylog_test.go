package runners

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// report is one call of Report that was recorded.
type report struct {
	lines []string
	end   domain.Event
}

// memoryLog is a log of executions that decides as the real one does.
type memoryLog struct {
	mu       sync.Mutex
	events   map[uuid.UUID][]domain.Event
	function domain.Function
	reports  []report
	failing  func(attempt int, end domain.Event) error // what Report answers instead, when not nil
	attempts int
	changed  chan struct{} // closed, and made anew, at every report
}

func newMemoryLog(f domain.Function) *memoryLog {
	return &memoryLog{events: map[uuid.UUID][]domain.Event{}, function: f, changed: make(chan struct{})}
}

func (l *memoryLog) request(t *testing.T, input string) uuid.UUID {
	id := uuid.New()
	events, err := domain.RequestExecution{
		ExecutionID: id, AccountID: l.function.AccountID, FunctionID: l.function.ID, Function: l.function, Input: json.RawMessage(input),
	}.Decide(domain.Execution{})
	require.NoError(t, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[id] = events
	return id
}

// waiting is what an executor is offered of an execution.
func (l *memoryLog) waiting(id uuid.UUID) Waiting {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Waiting{ExecutionID: id, AccountID: l.function.AccountID, FunctionID: l.function.ID, Concurrency: l.function.Concurrency}
}

func (l *memoryLog) Claim(_ context.Context, w Waiting, workerID uuid.UUID) (*domain.Attempt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := w.ExecutionID
	state := domain.Fold[domain.Execution](l.events[id]...)
	events, err := domain.StartExecution{WorkerID: workerID}.Decide(state)
	if err != nil {
		return nil, err
	}
	l.events[id] = append(l.events[id], events...)
	f := l.function
	f.ID, f.AccountID = w.FunctionID, w.AccountID
	return &domain.Attempt{Execution: domain.Fold[domain.Execution](l.events[id]...), Function: f}, nil
}

// Backlog is empty: a test that needs one has a log of its own.
func (l *memoryLog) Backlog(context.Context, uuid.UUID, uuid.UUID, int64, int) ([]Waiting, error) {
	return nil, nil
}

func (l *memoryLog) Report(_ context.Context, attempt *domain.Attempt, lines []domain.ExecutionLogLine, end domain.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { close(l.changed); l.changed = make(chan struct{}) }()
	l.attempts++
	if l.failing != nil {
		if err := l.failing(l.attempts, end); err != nil {
			return err
		}
	}
	id := attempt.Execution.ID
	events, err := domain.ReportExecution{WorkerID: attempt.Execution.WorkerID, Lines: lines, End: end}.Decide(domain.Fold[domain.Execution](l.events[id]...))
	if err != nil {
		return err
	}
	l.events[id] = append(l.events[id], events...)
	r := report{end: end}
	for _, line := range lines {
		r.lines = append(r.lines, line.Text)
	}
	l.reports = append(l.reports, r)
	return nil
}

func (l *memoryLog) abandon(id uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[id] = append(l.events[id], domain.ExecutionFailed{ErrorType: domain.ErrorWorkerLost})
}

// ends returns how the execution ended: more than one end would be a broken promise.
func (l *memoryLog) ends(id uuid.UUID) []domain.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ends []domain.Event
	for _, event := range l.events[id] {
		switch event.(type) {
		case domain.ExecutionCompleted, domain.ExecutionFailed:
			ends = append(ends, event)
		}
	}
	return ends
}

// await waits until a condition holds, which it checks after every report.
func (l *memoryLog) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			require.FailNow(t, "there should be "+what)
		}
	}
}

func (l *memoryLog) awaitEnd(t *testing.T, id uuid.UUID) domain.Event {
	t.Helper()
	l.await(t, "an end", func() bool { return len(l.ends(id)) > 0 })
	return l.ends(id)[0]
}

func (l *memoryLog) awaitReport(t *testing.T) {
	t.Helper()
	l.await(t, "a report", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.reports) > 0
	})
}

package runners

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	failing  func(attempt int) error // what Report answers instead, when not nil
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

func (l *memoryLog) Claim(_ context.Context, id, workerID uuid.UUID) (*domain.Attempt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := domain.Fold[domain.Execution](l.events[id]...)
	events, err := domain.StartExecution{WorkerID: workerID}.Decide(state)
	if err != nil {
		return nil, err
	}
	l.events[id] = append(l.events[id], events...)
	return &domain.Attempt{Execution: domain.Fold[domain.Execution](l.events[id]...), Function: l.function}, nil
}

func (l *memoryLog) Report(_ context.Context, attempt *domain.Attempt, lines []domain.ExecutionLogLine, end domain.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { close(l.changed); l.changed = make(chan struct{}) }()
	l.attempts++
	if l.failing != nil {
		if err := l.failing(l.attempts); err != nil {
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

// scripted is a Runner that a test directs.
type scripted func(ctx context.Context, inv Invocation, emit func(domain.ExecutionLogLine)) domain.Event

func (s scripted) Run(ctx context.Context, inv Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
	return s(ctx, inv, emit)
}

func line(text string) domain.ExecutionLogLine {
	return domain.ExecutionLogLine{Stream: domain.Stdout, Text: text, At: time.Now()}
}

var done = domain.ExecutionCompleted{Output: json.RawMessage(`"done"`)}

// untilStopped runs until its context ends, as a handler that takes long.
func untilStopped(started chan<- struct{}) scripted {
	return func(ctx context.Context, _ Invocation, _ func(domain.ExecutionLogLine)) domain.Event {
		started <- struct{}{}
		<-ctx.Done()
		return domain.ExecutionFailed{ErrorType: domain.ErrorWorkerStopped}
	}
}

func newTestExecutor(t *testing.T, log *memoryLog, runner Runner, config ExecutorConfig) *Executor {
	config.WorkerID = uuid.New()
	e := NewExecutor(log, runner, config)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = e.Stop(ctx)
	})
	return e
}

func TestARealFunctionIsClaimedRunAndRecorded(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `exports.handler = async (e) => { console.log('hello'); return e.n + 1 }`))
	e := newTestExecutor(t, log, runner, ExecutorConfig{})
	id := log.request(t, `{"n":41}`)
	require.NoError(t, e.Execute(t.Context(), id))
	end, ok := log.awaitEnd(t, id).(domain.ExecutionCompleted)
	require.True(t, ok)
	require.Equal(t, `42`, string(end.Output))
	require.Equal(t, []report{{lines: []string{"hello"}, end: end}}, log.reports, "the lines of a short run travel with its end")
}

func TestAnExecutionIsRunOnceHoweverOftenItIsDelivered(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	var mu sync.Mutex
	runs := map[uuid.UUID]int{}
	count := scripted(func(_ context.Context, inv Invocation, _ func(domain.ExecutionLogLine)) domain.Event {
		mu.Lock()
		defer mu.Unlock()
		runs[inv.ExecutionID]++
		return done
	})
	one, other := newTestExecutor(t, log, count, ExecutorConfig{}), newTestExecutor(t, log, count, ExecutorConfig{})
	id := log.request(t, `{}`)
	var deliveries sync.WaitGroup
	for i := range 20 {
		deliveries.Go(func() {
			if err := []*Executor{one, other}[i%2].Execute(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	deliveries.Wait()
	log.awaitEnd(t, id)
	require.NoError(t, one.Stop(t.Context()))
	require.NoError(t, other.Stop(t.Context()))
	require.Equal(t, map[uuid.UUID]int{id: 1}, runs)
	require.Len(t, log.ends(id), 1)
}

func TestAClaimThatFailsIsGivenBackAndASlotIsNotLost(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	broken := errors.New("the store is away")
	e := NewExecutor(brokenClaims{log, broken}, scripted(nil), ExecutorConfig{WorkerID: uuid.New(), Slots: 1})
	for range 3 {
		require.ErrorIs(t, e.Execute(t.Context(), uuid.New()), broken)
		require.Equal(t, 1, e.Free())
	}
	require.NoError(t, e.Stop(t.Context()))
}

type brokenClaims struct {
	*memoryLog
	err error
}

func (b brokenClaims) Claim(context.Context, uuid.UUID, uuid.UUID) (*domain.Attempt, error) {
	return nil, b.err
}

func TestNoMoreRunAtOnceThanThereAreSlots(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	started := make(chan struct{})
	finish := make(chan struct{})
	e := newTestExecutor(t, log, scripted(func(context.Context, Invocation, func(domain.ExecutionLogLine)) domain.Event {
		started <- struct{}{}
		<-finish
		return done
	}), ExecutorConfig{Slots: 2})
	require.Equal(t, 2, e.Free())
	require.NoError(t, e.Wait(t.Context()))
	for range 2 {
		require.NoError(t, e.Execute(t.Context(), log.request(t, `{}`)))
		<-started
	}
	require.Equal(t, 0, e.Free())
	for id := range log.events {
		require.True(t, e.Holds(id))
	}

	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.Wait(soon), context.DeadlineExceeded)
	third := log.request(t, `{}`)
	require.ErrorIs(t, e.Execute(soon, third), context.DeadlineExceeded)
	require.Equal(t, domain.ExecutionPending, domain.Fold[domain.Execution](log.events[third]...).Status, "what has no slot is not claimed")

	finish <- struct{}{}
	require.NoError(t, e.Wait(t.Context()))
	require.NoError(t, e.Execute(t.Context(), third))
	<-started
	close(finish)
	log.awaitEnd(t, third)
}

func TestARunOutlivesTheDeliveryThatBroughtIt(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	delivered := make(chan struct{})
	e := newTestExecutor(t, log, scripted(func(ctx context.Context, _ Invocation, _ func(domain.ExecutionLogLine)) domain.Event {
		<-delivered
		if ctx.Err() != nil {
			return domain.ExecutionFailed{}
		}
		return done
	}), ExecutorConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(ctx, id))
	cancel()
	close(delivered)
	require.Equal(t, done, log.awaitEnd(t, id))
}

func TestLinesAreReportedAMomentAfterTheFirst(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
		emit(line("1"))
		emit(line("2"))
		log.awaitReport(t) // while the run goes on
		emit(line("3"))
		return done
	}), ExecutorConfig{})
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(t.Context(), id))
	require.Equal(t, done, log.awaitEnd(t, id))
	require.Equal(t, []report{{lines: []string{"1", "2"}}, {lines: []string{"3"}, end: done}}, log.reports)
}

func TestManyLinesAreReportedInBoundedBatchesInOrder(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	const count = 5000
	e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
		for i := range count {
			emit(line(fmt.Sprint(i)))
		}
		return done
	}), ExecutorConfig{})
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(t.Context(), id))
	log.awaitEnd(t, id)
	next := 0
	for _, r := range log.reports {
		require.LessOrEqual(t, len(r.lines), 2*maxBatchLines)
		for _, text := range r.lines {
			require.Equal(t, fmt.Sprint(next), text)
			next++
		}
	}
	require.Equal(t, count, next)
}

func TestAReportIsRepeatedUntilTheStoreIsBack(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	log.failing = func(attempt int) error {
		if attempt <= 4 {
			return errors.New("connection refused")
		}
		return nil
	}
	e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
		emit(line("kept"))
		return done
	}), ExecutorConfig{})
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(t.Context(), id))
	require.Equal(t, done, log.awaitEnd(t, id))
	require.Equal(t, []report{{lines: []string{"kept"}, end: done}}, log.reports)
	require.Equal(t, 5, log.attempts)
}

func TestAHandlerWaitsWhenItsLinesCannotBeRecorded(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	away := make(chan struct{})
	log.failing = func(int) error { <-away; return nil }
	emitted := make(chan int, 10*maxBatchLines)
	e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
		for i := range 10 * maxBatchLines {
			emit(line("x"))
			emitted <- i
		}
		return done
	}), ExecutorConfig{})
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(t.Context(), id))
	for range 2 * maxBatchLines {
		<-emitted // one batch is on its way, one waits
	}
	select {
	case i := <-emitted:
		require.FailNow(t, "the run should wait", "but it went on to line %d", i)
	case <-time.After(100 * time.Millisecond):
	}
	close(away)
	require.Equal(t, done, log.awaitEnd(t, id))
}

func TestWhoHasLostItsClaimIsStoppedAndWritesNothingMore(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(0.3)\n    print('more')\n    time.sleep(60)"))
	e := newTestExecutor(t, log, runner, ExecutorConfig{Slots: 1})
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(t.Context(), id))
	log.awaitReport(t)
	log.abandon(id)
	require.NoError(t, e.Wait(t.Context()), "the handler is killed and its slot is free again")
	require.Equal(t, []domain.Event{domain.ExecutionFailed{ErrorType: domain.ErrorWorkerLost}}, log.ends(id))
	require.Equal(t, []report{{lines: []string{"begun"}}}, log.reports)
}

func TestStopWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("python", "import time\ndef handler(event):\n    time.sleep(0.3)\n    return 'done'"))
	e := newTestExecutor(t, log, runner, ExecutorConfig{})
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(t.Context(), id))
	require.NoError(t, e.Stop(t.Context()))
	require.IsType(t, domain.ExecutionCompleted{}, log.ends(id)[0])
	require.ErrorIs(t, e.Execute(t.Context(), log.request(t, `{}`)), ErrStopped)
	require.ErrorIs(t, e.Wait(t.Context()), ErrStopped)
	require.NoError(t, e.Stop(t.Context()), "a second Stop is harmless")
}

func TestStopKillsWhatRunsLongerThanTheGraceAndRecordsIt(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(60)"))
	e := newTestExecutor(t, log, runner, ExecutorConfig{Grace: 50 * time.Millisecond})
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(t.Context(), id))
	log.awaitReport(t) // it has begun
	require.NoError(t, e.Stop(t.Context()))
	ends := log.ends(id)
	require.Len(t, ends, 1)
	require.Equal(t, domain.ErrorWorkerStopped, ends[0].(domain.ExecutionFailed).ErrorType)
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	log.failing = func(int) error { return errors.New("the store is gone for good") }
	started := make(chan struct{}, 1)
	e := newTestExecutor(t, log, untilStopped(started), ExecutorConfig{Grace: 10 * time.Millisecond, Slots: 1})
	id := log.request(t, `{}`)
	require.NoError(t, e.Execute(t.Context(), id))
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.Stop(ctx), context.DeadlineExceeded)
	require.Empty(t, log.ends(id))
	require.Equal(t, 1, e.Free(), "nothing runs any more")
}

package runners

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

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

func newTestExecutor(t *testing.T, log Recorder, runner Runner, config ExecutorConfig) *Executor {
	config.WorkerID, config.Logger = uuid.New(), quiet
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
	e.Offer(log.waiting(id))
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
		deliveries.Go(func() { []*Executor{one, other}[i%2].Offer(log.waiting(id)) })
	}
	deliveries.Wait()
	log.awaitEnd(t, id)
	require.NoError(t, one.Stop(t.Context()))
	require.NoError(t, other.Stop(t.Context()))
	require.Equal(t, map[uuid.UUID]int{id: 1}, runs)
	require.Len(t, log.ends(id), 1)
}

func TestAClaimThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &awayForClaims{memoryLog: newMemoryLog(function("nodejs", `x`)), until: time.Now().Add(time.Hour)}
		e := newTestExecutor(t, log, scripted(func(context.Context, Invocation, func(domain.ExecutionLogLine)) domain.Event { return done }),
			ExecutorConfig{Slots: 1})
		id := log.request(t, `{}`)
		e.Offer(log.waiting(id))
		time.Sleep(2 * time.Hour)
		require.Equal(t, []domain.Event{done}, log.ends(id))
		require.Zero(t, e.Load().Running)
	})
}

type awayForClaims struct {
	*memoryLog
	until time.Time
}

func (a *awayForClaims) Claim(ctx context.Context, w Waiting, workerID uuid.UUID) (*domain.Attempt, error) {
	if time.Now().Before(a.until) {
		return nil, errors.New("the store is away")
	}
	return a.memoryLog.Claim(ctx, w, workerID)
}

func TestAnExecutionThatCannotBeClaimedIsNothingToDo(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	e := newTestExecutor(t, log, scripted(nil), ExecutorConfig{Slots: 1})
	e.Offer(log.waiting(uuid.New()))
	awaitIdle(t, e)
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
	for range 2 {
		e.Offer(log.waiting(log.request(t, `{}`)))
		<-started
	}
	for id := range log.events {
		require.True(t, e.Holds(id))
	}
	third := log.request(t, `{}`)
	e.Offer(log.waiting(third))
	e.Offer(log.waiting(third))
	require.Equal(t, Load{Running: 2, Slots: 2, Waiting: 1}, e.Load())
	require.Equal(t, domain.ExecutionPending, domain.Fold[domain.Execution](log.events[third]...).Status, "what has no place is not claimed")

	finish <- struct{}{}
	<-started
	close(finish)
	log.awaitEnd(t, third)
}

// awaitIdle waits until nothing runs and nothing waits.
func awaitIdle(t *testing.T, e *Executor) {
	t.Helper()
	require.Eventually(t, func() bool { l := e.Load(); return l.Running == 0 && l.Waiting == 0 }, 3*time.Hour, time.Millisecond)
}

func TestWhoHasLostItsClaimIsStoppedAndWritesNothingMore(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(0.3)\n    print('more')\n    time.sleep(60)"))
	e := newTestExecutor(t, log, runner, ExecutorConfig{Slots: 1})
	id := log.request(t, `{}`)
	e.Offer(log.waiting(id))
	log.awaitReport(t)
	log.abandon(id)
	awaitIdle(t, e) // the handler is killed and its place is free again
	require.Equal(t, []domain.Event{domain.ExecutionFailed{ErrorType: domain.ErrorWorkerLost}}, log.ends(id))
	require.Equal(t, []report{{lines: []string{"begun"}}}, log.reports)
}

func TestStopWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("python", "import time\ndef handler(event):\n    time.sleep(0.3)\n    return 'done'"))
	e := newTestExecutor(t, log, runner, ExecutorConfig{})
	id := log.request(t, `{}`)
	e.Offer(log.waiting(id))
	require.NoError(t, e.Stop(t.Context()))
	require.IsType(t, domain.ExecutionCompleted{}, log.ends(id)[0])
	_, err := e.TryEnter(log.function)
	require.ErrorIs(t, err, ErrStopped)
	_, err = e.Enter(t.Context(), log.function)
	require.ErrorIs(t, err, ErrStopped)
	require.NoError(t, e.Stop(t.Context()), "a second Stop is harmless")
}

func TestStopKillsWhatRunsLongerThanTheGraceAndRecordsIt(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(60)"))
	e := newTestExecutor(t, log, runner, ExecutorConfig{Grace: 50 * time.Millisecond})
	id := log.request(t, `{}`)
	e.Offer(log.waiting(id))
	log.awaitReport(t) // it has begun
	require.NoError(t, e.Stop(t.Context()))
	ends := log.ends(id)
	require.Len(t, ends, 1)
	require.Equal(t, domain.ErrorWorkerStopped, ends[0].(domain.ExecutionFailed).ErrorType)
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	log.failing = func(int, domain.Event) error { return errors.New("the store is gone for good") }
	started := make(chan struct{}, 1)
	e := newTestExecutor(t, log, untilStopped(started), ExecutorConfig{Grace: 10 * time.Millisecond, Slots: 1})
	id := log.request(t, `{}`)
	e.Offer(log.waiting(id))
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.Stop(ctx), context.DeadlineExceeded)
	require.Empty(t, log.ends(id))
	require.Zero(t, e.Load().Running)
}

func TestTheRunsOfAnErasedAccountEndAndNoOthers(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	started := make(chan struct{}, 3)
	e := newTestExecutor(t, log, untilStopped(started), ExecutorConfig{Slots: 3})
	erased, other := uuid.New(), uuid.New()
	ids := map[uuid.UUID][]uuid.UUID{}
	for _, account := range []uuid.UUID{erased, other, erased} {
		log.function.AccountID = account
		id := log.request(t, `{}`)
		ids[account] = append(ids[account], id)
		e.Offer(log.waiting(id))
		<-started
	}
	e.StopAccount(erased)
	for _, id := range ids[erased] {
		log.awaitEnd(t, id)
	}
	require.True(t, e.Holds(ids[other][0]))
	require.Empty(t, log.ends(ids[other][0]))
}

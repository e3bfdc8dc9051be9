package runners

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
)

// fleet is an executor whose runs take as long as the test says, in fake time.
type fleet struct {
	*Executor
	log  *memoryLog
	mu   sync.Mutex
	runs []uuid.UUID // the accounts, in the order in which their runs began
}

func newFleet(t *testing.T, takes time.Duration, config ExecutorConfig) *fleet {
	f := &fleet{log: newMemoryLog(function("nodejs", `x`))}
	f.Executor = newTestExecutor(t, f.log, scripted(func(ctx context.Context, inv Invocation, _ func(domain.ExecutionLogLine)) domain.Event {
		f.mu.Lock()
		f.runs = append(f.runs, inv.Function.AccountID)
		f.mu.Unlock()
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
		return done
	}), config)
	return f
}

func (f *fleet) begun() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.runs)
}

// of makes a function of an account.
func of(account uuid.UUID, concurrency int) domain.Function {
	f := function("nodejs", `x`)
	f.ID, f.AccountID, f.Concurrency, f.Status = uuid.New(), account, concurrency, domain.FunctionActive
	return f
}

// offer lets an accepted execution of a function wait.
func (f *fleet) offer(t *testing.T, fn domain.Function) {
	f.log.mu.Lock()
	f.log.function = fn
	f.log.mu.Unlock()
	w := f.log.waiting(f.log.request(t, `{}`))
	f.log.mu.Lock()
	execution := domain.Fold[domain.Execution](f.log.events[w.ExecutionID]...)
	f.log.mu.Unlock()
	w.Attempt = &domain.Attempt{Execution: execution, Function: fn}
	f.Offer(w)
}

func TestOneAccountsFloodDoesNotDelayAnothersSingleCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, time.Second, ExecutorConfig{Slots: 8})
		flooding := of(uuid.New(), 0)
		for range 200 {
			f.offer(t, flooding)
		}
		synctest.Wait()
		began := time.Now()
		for range 3 { // each of another account: there is room for those of whom nothing runs, beside the flood
			p, err := f.Enter(t.Context(), of(uuid.New(), 0))
			require.NoError(t, err)
			p.Leave()
		}
		require.LessOrEqual(t, time.Since(began), 100*time.Millisecond)
	})
}

func TestAccountsTakeTurnsWhateverTheirBacklogs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, time.Second, ExecutorConfig{Slots: 1})
		large, small := of(uuid.New(), 0), of(uuid.New(), 0)
		for range 20 {
			f.offer(t, large)
		}
		for range 5 {
			f.offer(t, small)
		}
		awaitIdle(t, f.Executor)
		others := slices.DeleteFunc(slices.Clone(f.runs[:10]), func(account uuid.UUID) bool { return account != small.AccountID })
		require.GreaterOrEqual(t, len(others), 4, "half of the first ten turns")
	})
}

func TestAFunctionRunsNoMoreAtOnceThanItMayAndHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, time.Second, ExecutorConfig{Slots: 16})
		account := uuid.New()
		one, other := of(account, 1), of(account, 0)
		for range 10 {
			f.offer(t, one)
		}
		began := time.Now()
		p, err := f.TryEnter(one)
		require.NoError(t, err)
		require.Nil(t, p, "it is as busy as it may be")
		p, err = f.TryEnter(other)
		require.NoError(t, err)
		require.Nil(t, p, "something of the account waits, so nobody goes before it")
		p, err = f.Enter(t.Context(), other)
		require.NoError(t, err)
		require.Zero(t, time.Since(began))
		p.Leave()
		awaitIdle(t, f.Executor)
		require.Equal(t, 10*time.Second, time.Since(began).Round(time.Second), "one after the other")
	})
}

func TestShortRunsShareAFewPlacesAndLongOnesMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, time.Minute, ExecutorConfig{Slots: 100})
		fn := of(uuid.New(), 0)
		for range 60 {
			f.offer(t, fn)
		}
		synctest.Wait()
		require.Equal(t, f.gate.limit, f.begun())
		time.Sleep(time.Second)
		require.Equal(t, 60, f.begun(), "who runs for long waits for something else")
	})
}

func TestBeyondTheBoundsCallsAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, time.Hour, ExecutorConfig{Slots: 1, Queue: 30, Held: 3})
		fn := of(uuid.New(), 0)
		f.offer(t, fn)
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go func() { _, _ = f.Enter(ctx, fn) }()
		}
		synctest.Wait()
		_, err := f.Enter(t.Context(), fn)
		require.True(t, domain.IsCode(err, domain.Busy), "%v", err)
		cancel()
		synctest.Wait()
		require.Zero(t, f.Load().Waiting, "who has gone does not wait")
		for range 30 {
			f.offer(t, fn)
		}
		_, err = f.TryEnter(fn)
		require.True(t, domain.IsCode(err, domain.Busy), "%v", err)
		other, err := f.TryEnter(of(uuid.New(), 0))
		require.NoError(t, err)
		require.Nil(t, other)
	})
}

// backlogged is a log that holds what an executor does not.
type backlogged struct {
	*memoryLog
	all []Waiting
}

func (b *backlogged) Backlog(_ context.Context, account, function uuid.UUID, after int64, limit int) (more []Waiting, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.all {
		pending := domain.Fold[domain.Execution](b.events[w.ExecutionID]...).Status == domain.ExecutionPending
		if w.AccountID == account && w.FunctionID == function && w.Position > after && pending && len(more) < limit {
			more = append(more, w)
		}
	}
	return more, nil
}

func (b *backlogged) Claim(ctx context.Context, w Waiting, workerID uuid.UUID) (*domain.Attempt, error) {
	return b.memoryLog.Claim(ctx, w, workerID)
}

func TestALongBacklogIsHeldByTheLogAndRunsToItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &backlogged{memoryLog: newMemoryLog(of(uuid.New(), 0))}
		e := newTestExecutor(t, log, scripted(func(context.Context, Invocation, func(domain.ExecutionLogLine)) domain.Event {
			time.Sleep(time.Millisecond)
			return done
		}), ExecutorConfig{Slots: 4})
		for i := range 5000 {
			w := log.waiting(log.request(t, `{}`))
			w.Position = int64(i + 1)
			log.mu.Lock()
			log.all = append(log.all, w)
			log.mu.Unlock()
			e.Offer(w)
			if i%7 == 0 {
				e.Offer(w) // once by the request, once by the log
			}
		}
		require.LessOrEqual(t, len(e.waiting), maxTurns)
		require.LessOrEqual(t, e.Waits(5000), int64(4990), "what waits is read again by a start")
		awaitIdle(t, e)
		for _, w := range log.all {
			require.Len(t, log.ends(w.ExecutionID), 1)
		}
		require.Equal(t, int64(5000), e.Waits(5000))
		require.Empty(t, e.queue.tenants, "nothing is kept of who has nothing to run")
	})
}

// Whatever comes and goes in whatever order, nobody is lost, no limit is broken, and who may run does.
func TestTheQueueKeepsItsPromisesWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(6, 4)
		accounts := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
		functions := map[uuid.UUID]int{uuid.New(): 0, uuid.New(): 1, uuid.New(): 2}
		var running []*Place
		var waiting []*turn
		t.Repeat(map[string]func(*rapid.T){
			"come": func(t *rapid.T) {
				account := rapid.SampledFrom(accounts).Draw(t, "account")
				for id, limit := range functions {
					if rapid.Bool().Draw(t, "one") {
						w := &turn{lane: q.laneOf(account, id, limit), accepted: &Waiting{}}
						waiting = append(waiting, w)
						q.push(w)
					}
				}
			},
			"leave": func(t *rapid.T) {
				if len(waiting) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(waiting)-1).Draw(t, "who")
				q.leave(waiting[i])
				waiting = slices.Delete(waiting, i, i+1)
			},
			"end": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
				q.end(running[i])
				running = slices.Delete(running, i, i+1)
			},
			"": func(t *rapid.T) {
				for next := q.next(); next != nil; next = q.next() {
					i := slices.Index(waiting, next)
					require.GreaterOrEqual(t, i, 0, "who has a turn waits")
					waiting = slices.Delete(waiting, i, i+1)
					running = append(running, q.begin(next.lane))
				}
				requireLimits(t, q, running)
				requireNobodyCouldRun(t, q, waiting)
			},
		})
	})
}

func requireLimits(t *rapid.T, q *queue, running []*Place) {
	tenants, lanes := map[*tenant]int{}, map[*lane]int{}
	for _, p := range running {
		tenants[p.lane.tenant]++
		lanes[p.lane]++
	}
	require.LessOrEqual(t, len(running), q.slots)
	require.Equal(t, len(running), q.running)
	for tenant, n := range tenants {
		require.LessOrEqual(t, n, q.each)
		require.Equal(t, n, tenant.running)
	}
	for lane, n := range lanes {
		require.True(t, lane.limit == 0 || n <= lane.limit, fmt.Sprintf("%d of %d", n, lane.limit))
	}
}

func requireNobodyCouldRun(t *rapid.T, q *queue, waiting []*turn) {
	for _, w := range waiting {
		may := q.admits(w.lane.tenant) && (w.lane.limit == 0 || w.lane.running < w.lane.limit)
		require.False(t, may, "there is room for one that waits")
	}
}

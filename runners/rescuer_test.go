package runners

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// leases is what a rescuer sees: who runs what, and who is alive.
type leases struct {
	mu         sync.Mutex
	unfinished []Unfinished
	alive      map[uuid.UUID]bool
	abandoned  map[uuid.UUID]domain.ExecutionFailed
	err        error
	looks      chan struct{}
}

func newLeases(unfinished ...Unfinished) *leases {
	return &leases{
		unfinished: unfinished, alive: map[uuid.UUID]bool{}, abandoned: map[uuid.UUID]domain.ExecutionFailed{}, looks: make(chan struct{}, 10_000),
	}
}

func (l *leases) Unfinished(context.Context) ([]Unfinished, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks <- struct{}{}
	var left []Unfinished
	for _, u := range l.unfinished {
		if _, over := l.abandoned[u.ExecutionID]; !over {
			left = append(left, u)
		}
	}
	return left, l.err
}

func (l *leases) Alive(_ context.Context, workerID uuid.UUID) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alive[workerID], nil
}

func (l *leases) Abandon(_ context.Context, executionID, _ uuid.UUID, failure domain.ExecutionFailed) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abandoned[executionID] = failure
	return nil
}

func (l *leases) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *leases) ended() map[uuid.UUID]domain.ExecutionFailed {
	l.mu.Lock()
	defer l.mu.Unlock()
	ended := map[uuid.UUID]domain.ExecutionFailed{}
	for id, failure := range l.abandoned {
		ended[id] = failure
	}
	return ended
}

func TestTheExecutionsOfALostWorkerEnd(t *testing.T) {
	t.Parallel()
	own, dead, living := uuid.New(), uuid.New(), uuid.New()
	lost := []Unfinished{{uuid.New(), dead}, {uuid.New(), dead}}
	l := newLeases(append(lost, Unfinished{uuid.New(), living}, Unfinished{uuid.New(), own})...)
	l.alive[living] = true
	r := NewRescuer(l, RescuerConfig{WorkerID: own, Interval: 10 * time.Millisecond, Grace: 30 * time.Millisecond})
	r.Start()
	r.Start()
	require.Eventually(t, func() bool { return len(l.ended()) == 2 }, 5*time.Second, time.Millisecond)
	for range 20 {
		<-l.looks // what must not end has had its chances
	}
	r.Stop()
	r.Stop()
	ended := l.ended()
	require.Len(t, ended, 2)
	for _, u := range lost {
		require.Equal(t, domain.ErrorWorkerLost, ended[u.ExecutionID].ErrorType)
		require.Contains(t, ended[u.ExecutionID].Error, "The worker that ran this execution was lost before it finished.")
	}
}

func TestAnExecutionThatTheOwnWorkerLetGoEndsAndOneThatItHoldsDoesNot(t *testing.T) {
	t.Parallel()
	own, held, dropped := uuid.New(), uuid.New(), uuid.New()
	l := newLeases(Unfinished{held, own}, Unfinished{dropped, own})
	l.alive[own] = true
	r := NewRescuer(l, RescuerConfig{
		WorkerID: own, Grace: time.Millisecond, Held: func(executionID uuid.UUID) bool { return executionID == held },
	})
	require.NoError(t, r.look(t.Context()))
	require.Empty(t, l.ended(), "the first look only suspects")
	time.Sleep(2 * time.Millisecond)
	require.NoError(t, r.look(t.Context()))
	require.Contains(t, l.ended(), dropped)
	require.NotContains(t, l.ended(), held)
}

func TestAWorkerIsDeadOnlyAtTheSecondLook(t *testing.T) {
	t.Parallel()
	worker := uuid.New()
	l := newLeases(Unfinished{uuid.New(), worker})
	r := NewRescuer(l, RescuerConfig{WorkerID: uuid.New(), Interval: time.Hour, Grace: 40 * time.Millisecond})

	require.NoError(t, r.look(t.Context()))
	require.NoError(t, r.look(t.Context()))
	require.Empty(t, l.ended(), "two looks within the grace period are one")

	l.set(func() { l.alive[worker] = true })
	time.Sleep(r.config.Grace)
	require.NoError(t, r.look(t.Context()))
	l.set(func() { l.alive[worker] = false })
	require.NoError(t, r.look(t.Context()))
	require.Empty(t, l.ended(), "who was seen alive in between is suspected anew")

	time.Sleep(r.config.Grace)
	require.NoError(t, r.look(t.Context()))
	require.Len(t, l.ended(), 1)
}

func TestALookThatFailsClearsTheSuspicions(t *testing.T) {
	t.Parallel()
	l := newLeases(Unfinished{uuid.New(), uuid.New()})
	r := NewRescuer(l, RescuerConfig{WorkerID: uuid.New(), Grace: time.Millisecond})
	require.NoError(t, r.look(t.Context()))
	time.Sleep(2 * time.Millisecond)
	l.set(func() { l.err = errors.New("the store restarts") })
	require.Error(t, r.look(t.Context()))
	l.set(func() { l.err = nil })
	require.NoError(t, r.look(t.Context()))
	require.Empty(t, l.ended(), "while the store was away nobody could renew a lease")
}

func TestARescuerWithoutSuspectsLooksOnlyFromTimeToTime(t *testing.T) {
	t.Parallel()
	l := newLeases()
	r := NewRescuer(l, RescuerConfig{WorkerID: uuid.New(), Interval: time.Hour, Grace: time.Millisecond})
	r.Start()
	<-l.looks
	select {
	case <-l.looks:
		require.FailNow(t, "a second look was not due")
	case <-time.After(50 * time.Millisecond):
	}
	r.Stop()
}

func TestARescuerThatNeverStartedStops(t *testing.T) {
	t.Parallel()
	NewRescuer(newLeases(), RescuerConfig{WorkerID: uuid.New()}).Stop()
}

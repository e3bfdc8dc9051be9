package runners

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
	looks      int
}

func newLeases(unfinished ...Unfinished) *leases {
	return &leases{
		unfinished: unfinished, alive: map[uuid.UUID]bool{}, abandoned: map[uuid.UUID]domain.ExecutionFailed{},
	}
}

func (l *leases) Unfinished(context.Context) ([]Unfinished, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
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
	return maps.Clone(l.abandoned)
}

func (l *leases) lookedAt() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looks
}

func newTestRescuer(l *leases, config RescuerConfig) *Rescuer {
	config.Logger = quiet
	return NewRescuer(l, config)
}

// These tests live on synctest's clock: time passes only where they sleep, and at once.

func TestTheExecutionsOfALostWorkerEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		own, dead, living := uuid.New(), uuid.New(), uuid.New()
		lost := []Unfinished{{uuid.New(), dead}, {uuid.New(), dead}}
		l := newLeases(append(lost, Unfinished{uuid.New(), living}, Unfinished{uuid.New(), own})...)
		l.alive[living] = true
		r := newTestRescuer(l, RescuerConfig{WorkerID: own})
		r.Start()
		r.Start()
		time.Sleep(time.Hour)
		r.Stop()
		r.Stop()
		ended := l.ended()
		require.Len(t, ended, 2)
		for _, u := range lost {
			require.Equal(t, domain.ErrorWorkerLost, ended[u.ExecutionID].ErrorType)
			require.Contains(t, ended[u.ExecutionID].Error, "The worker that ran this execution was lost before it finished.")
		}
	})
}

func TestAnExecutionThatTheOwnWorkerLetGoEndsAndOneThatItHoldsDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		own, held, dropped := uuid.New(), uuid.New(), uuid.New()
		l := newLeases(Unfinished{held, own}, Unfinished{dropped, own})
		l.alive[own] = true
		r := newTestRescuer(l, RescuerConfig{WorkerID: own, Held: func(executionID uuid.UUID) bool { return executionID == held }})
		require.NoError(t, r.look(t.Context()))
		require.Empty(t, l.ended(), "the first look only suspects")
		time.Sleep(r.config.Grace)
		require.NoError(t, r.look(t.Context()))
		require.Contains(t, l.ended(), dropped)
		require.NotContains(t, l.ended(), held)
	})
}

func TestAWorkerIsDeadOnlyAtTheSecondLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		worker := uuid.New()
		l := newLeases(Unfinished{uuid.New(), worker})
		r := newTestRescuer(l, RescuerConfig{WorkerID: uuid.New()})

		require.NoError(t, r.look(t.Context()))
		time.Sleep(r.config.Grace - 1)
		require.NoError(t, r.look(t.Context()))
		require.Empty(t, l.ended(), "two looks within the grace period are one")

		l.alive[worker] = true
		time.Sleep(time.Nanosecond)
		require.NoError(t, r.look(t.Context()))
		l.alive[worker] = false
		require.NoError(t, r.look(t.Context()))
		require.Empty(t, l.ended(), "who was seen alive in between is suspected anew")

		time.Sleep(r.config.Grace)
		require.NoError(t, r.look(t.Context()))
		require.Len(t, l.ended(), 1)
	})
}

func TestALookThatFailsClearsTheSuspicions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(Unfinished{uuid.New(), uuid.New()})
		r := newTestRescuer(l, RescuerConfig{WorkerID: uuid.New()})
		require.NoError(t, r.look(t.Context()))
		time.Sleep(r.config.Grace)
		l.err = errors.New("the store restarts")
		require.Error(t, r.look(t.Context()))
		l.err = nil
		require.NoError(t, r.look(t.Context()))
		require.Empty(t, l.ended(), "while the store was away nobody could renew a lease")
	})
}

func TestARescuerLooksOftenOnlyWhileItSuspectsSomebody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLeases()
		r := newTestRescuer(l, RescuerConfig{WorkerID: uuid.New()})
		r.Start()
		time.Sleep(DefaultRescueInterval - 1)
		require.Equal(t, 1, l.lookedAt())
		l.set(func() { l.unfinished = []Unfinished{{uuid.New(), uuid.New()}} })
		time.Sleep(DefaultRescueGrace + 2)
		r.Stop()
		require.Equal(t, 3, l.lookedAt())
		require.Len(t, l.ended(), 1)
	})
}

func TestARescuerThatNeverStartedStops(t *testing.T) {
	t.Parallel()
	newTestRescuer(newLeases(), RescuerConfig{WorkerID: uuid.New()}).Stop()
}

func TestWhatARescuerDoesIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := Unfinished{uuid.New(), uuid.New()}
		var logged strings.Builder
		r := NewRescuer(newLeases(lost), RescuerConfig{WorkerID: uuid.New(), Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		require.NoError(t, r.look(t.Context()))
		time.Sleep(r.config.Grace)
		require.NoError(t, r.look(t.Context()))
		require.Contains(t, logged.String(), "execution="+lost.ExecutionID.String()+" worker="+lost.WorkerID.String())
	})
}

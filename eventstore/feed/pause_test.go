package feed_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/feed"
)

// pausedConsumer runs a consumer that fails with every page until it is healed, and waits until it is paused.
func pausedConsumer(t *testing.T, l *log, failure func() error) (consumer *feed.Consumer, heal func()) {
	t.Helper()
	var healed atomic.Bool
	consumer = l.project(t, "broken", func(context.Context, feed.Tx, feed.Page) error {
		if healed.Load() {
			return nil
		}
		return failure()
	})
	eventually(t, func() bool { return consumer.Status().Paused }, "the consumer pauses")
	return consumer, func() { healed.Store(true) }
}

func cannotFold() error { return errors.New("cannot fold this") }

func TestAConsumerThatFailsPausesAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "a", 10)
	broken, heal := pausedConsumer(t, l, cannotFold)
	other := l.project(t, "other", nothing)
	position := l.append(t, "a", 10)
	wait(t, other, position)

	status := broken.Status()
	require.Equal(t, "broken", status.Consumer)
	require.Zero(t, status.Position)
	require.Equal(t, "cannot fold this", status.Error)
	require.NotZero(t, status.PausedSince)
	require.Zero(t, l.seen(t, "broken"))
	require.Zero(t, l.openTransactions(t), "a paused consumer holds no transaction open")

	heal()
	broken.Resume()
	wait(t, broken, position)
	require.Equal(t, 20, l.seen(t, "broken"), "nothing is skipped")
	status = broken.Status()
	require.False(t, status.Paused)
	require.Empty(t, status.Error)
}

func TestAConsumerPausesAgainWhenItFailsAgain(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "a", 1)
	consumer, _ := pausedConsumer(t, l, cannotFold)
	first := consumer.Status().PausedSince
	consumer.Resume()
	consumer.Resume() // does nothing more
	eventually(t, func() bool { s := consumer.Status(); return s.Paused && s.PausedSince.After(first) }, "it pauses again")
}

func TestAPanicPausesTheConsumerWithoutShowingItsStack(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	position := l.append(t, "a", 1)
	consumer, heal := pausedConsumer(t, l, func() error { panic("out of cheese") })
	require.Equal(t, "panic: out of cheese", consumer.Status().Error)
	heal()
	consumer.Resume()
	wait(t, consumer, position)
}

func TestWaitForAPausedConsumerFailsAtOnce(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	position := l.append(t, "a", 1)
	consumer, _ := pausedConsumer(t, l, cannotFold)
	require.ErrorIs(t, consumer.Wait(context.Background(), position), feed.ErrPaused)
}

func TestWaitEndsWhenTheConsumerPauses(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	position := l.append(t, "a", 1)
	attempt := make(chan struct{}, 10)
	fail := make(chan struct{})
	consumer := l.project(t, "broken", func(context.Context, feed.Tx, feed.Page) error {
		attempt <- struct{}{}
		<-fail
		return cannotFold()
	})
	receive(t, attempt)
	waited := make(chan error)
	go func() { waited <- consumer.Wait(context.Background(), position) }()
	close(fail)
	require.ErrorIs(t, receive(t, waited), feed.ErrPaused)
}

func TestAConsumerStaysPausedWhenItsConnectionsBreak(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "a", 1)
	consumer, heal := pausedConsumer(t, l, cannotFold)
	before := consumer.Status()
	l.breakConnections(t)
	position := l.append(t, "a", 1)
	require.Equal(t, before, consumer.Status())
	heal()
	consumer.Resume()
	wait(t, consumer, position)
}

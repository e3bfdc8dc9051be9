package feed_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
)

// slots is a gate with a number of slots.
type slots struct {
	free    atomic.Int64
	changed chan struct{}
}

func newSlots(n int) *slots {
	s := &slots{changed: make(chan struct{}, 1)}
	s.free.Store(int64(n))
	return s
}

func (s *slots) Free() int { return int(s.free.Load()) }

func (s *slots) Wait(ctx context.Context) error {
	select {
	case <-s.changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slots) take() { s.free.Add(-1) }

func (s *slots) give() {
	s.free.Add(1)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// consume runs a handler for the topic until the test ends.
func (l *log) consume(t testing.TB, topic string, gate feed.Gate, handle message.NoPublishHandlerFunc) {
	t.Helper()
	l.router(t, func(r *message.Router) { r.AddConsumerHandler("test", topic, l.feed.Events("test", gate), handle) })
}

// forward is a handler that hands every message to the test.
func forward(to chan<- *message.Message) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		to <- msg
		return nil
	}
}

func TestAFullHandlerLeavesTheWorkInTheLog(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	last := l.append(t, "work", 5)
	gate := newSlots(2)
	taken := make(chan *message.Message, 10)
	l.consume(t, "work", gate, func(msg *message.Message) error {
		gate.take()
		taken <- msg
		return nil
	})
	receive(t, taken)
	receive(t, taken)
	eventually(t, func() bool { return l.checkpoint(t, "test", "work") == last-3 }, "the two are committed")
	require.Empty(t, taken)
	require.Zero(t, l.openTransactions(t), "no transaction is open at the gate")

	gate.give()
	receive(t, taken)
	eventually(t, func() bool { return l.checkpoint(t, "test", "work") == last-2 }, "one more is committed")
	require.Empty(t, taken)
}

func TestAGatedHandlerGoesOnWhenItsConnectionsBreak(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	gate := newSlots(0)
	taken := make(chan *message.Message, 10)
	l.consume(t, "work", gate, forward(taken))
	l.append(t, "work", 1)
	l.breakConnections(t)
	require.Empty(t, taken)
	gate.give()
	receive(t, taken)
}

func TestAMessageThatCannotBeHandledGoesToThePoisonTopicAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	publisher := feed.NewPublisher(l.store)
	bad := message.NewMessage("bad", []byte("x"))
	middleware.SetCorrelationID("c", bad)
	require.NoError(t, publisher.Publish("work", bad, message.NewMessage("good", nil)))
	handled, poisoned := make(chan *message.Message, 10), make(chan *message.Message, 10)
	l.consume(t, "work", nil, func(msg *message.Message) error {
		if msg.UUID == "bad" {
			return errors.New("no way")
		}
		handled <- msg
		return nil
	})
	require.Equal(t, "good", receive(t, handled).UUID)

	l.consume(t, feed.PoisonTopic, nil, forward(poisoned))
	msg := receive(t, poisoned)
	require.Equal(t, "bad", msg.UUID)
	require.Equal(t, []byte("x"), []byte(msg.Payload))
	require.Equal(t, "c", middleware.MessageCorrelationID(msg))
	require.Equal(t, "no way", msg.Metadata[middleware.ReasonForPoisonedKey])
	require.Equal(t, "work", msg.Metadata[middleware.PoisonedTopicKey])
	require.Equal(t, feed.PoisonTopic, msg.Metadata[feed.KeyType])
}

// The rest of the batch belongs to the transaction that was given up, so it comes again as well, and only then.
func TestAMessageIsReadAgainAfterAFailureThatPasses(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	last := l.append(t, "work", 4)
	var mu sync.Mutex
	var versions []string
	router, err := message.NewRouter(message.RouterConfig{}, nil)
	require.NoError(t, err)
	router.AddMiddleware(feed.Abort)
	router.AddConsumerHandler("test", "work", l.feed.Events("test", nil), func(msg *message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		versions = append(versions, msg.Metadata[feed.KeyVersion])
		if len(versions) == 2 {
			return context.DeadlineExceeded
		}
		return nil
	})
	run(t, router)
	eventually(t, func() bool { return l.checkpoint(t, "test", "work") == last }, "all are committed")
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"1", "2", "1", "2", "3", "4"}, versions)
}

func TestNobodyReadsBeforeBeingWoken(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	silent := &bell{rung: make(chan struct{}, 1)}
	handled := make(chan *message.Message, 10)
	subscriber := feed.New(l.pool, silent, quiet()).Events("test", nil)
	l.router(t, func(r *message.Router) { r.AddConsumerHandler("test", "work", subscriber, forward(handled)) })
	unseen := func() bool {
		l.append(t, "work", 1)
		select {
		case <-handled:
			return false
		case <-time.After(100 * time.Millisecond):
			return true
		}
	}
	// Looks that are under way, at the start and behind each message, may still find the next one.
	left := false
	for range 4 {
		left = left || unseen()
	}
	require.True(t, left, "an event is left alone without a wake-up")
	silent.ring()
	receive(t, handled)
}

// bell is a notifier in the hand of the test.
type bell struct{ rung chan struct{} }

func (b *bell) Subscribe() (<-chan struct{}, func()) { return b.rung, func() {} }

func (b *bell) ring() { b.rung <- struct{}{} }

func TestEveryMessageArrivesOnceWhileConnectionsBreak(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	consumer := l.project(t, "pages", nothing)
	var handled sync.Map
	l.consume(t, "work", nil, func(msg *message.Message) error {
		handled.Store(msg.UUID, true)
		return nil
	})
	const rounds, n = 10, 50
	var head eventstore.Position
	for range rounds {
		for range n {
			head = l.append(t, "work", 1)
		}
		l.breakConnections(t)
	}
	require.EqualValues(t, rounds*n, head)
	wait(t, consumer, head)
	require.Equal(t, rounds*n, l.seen(t, "pages"))
	eventually(t, func() bool { return l.checkpoint(t, "test", "work") == head }, "the events are handled")
	count := 0
	handled.Range(func(any, any) bool { count++; return true })
	require.Equal(t, rounds*n, count)
}

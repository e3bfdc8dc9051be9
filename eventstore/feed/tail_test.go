package feed_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
)

// ranges collects what a tail delivers.
type ranges struct {
	mu   sync.Mutex
	next eventstore.Position
	bad  []string
}

func (r *ranges) handle(msg *message.Message) error {
	return feed.InRange(msg, func(_ context.Context, from, to eventstore.Position) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if from != r.next || to < from {
			r.bad = append(r.bad, msg.UUID)
		}
		r.next = to + 1
		return nil
	})
}

func (r *ranges) upTo() eventstore.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next - 1
}

// follow lets a handler follow the log until the test ends.
func (l *log) follow(t testing.TB, tail *feed.Tail, handle message.NoPublishHandlerFunc) {
	t.Helper()
	l.router(t, func(router *message.Router) { router.AddConsumerHandler("followers", feed.All, tail, handle) })
}

func TestATailBringsEveryPositionToEachOfItsProcesses(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "t", 30)
	one, other := &ranges{next: 1}, &ranges{next: 1}
	for _, r := range []*ranges{one, other} {
		l.follow(t, l.feed.Tail("followers"), r.handle)
	}
	for range 5 {
		l.append(t, "t", 7)
		time.Sleep(30 * time.Millisecond)
	}
	head, err := l.store.Head(t.Context())
	require.NoError(t, err)
	for _, r := range []*ranges{one, other} {
		require.Eventually(t, func() bool { return r.upTo() == head }, 10*time.Second, time.Millisecond)
		require.Empty(t, r.bad)
	}
}

func TestATailBeginsBehindWhatWasKept(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "t", 30)
	first := l.feed.Tail("followers")
	seen := &ranges{next: 1}
	l.follow(t, first, seen.handle)
	require.Eventually(t, func() bool { return seen.upTo() == 30 }, 10*time.Second, time.Millisecond)
	require.NoError(t, first.Keep(t.Context(), 20))
	require.NoError(t, first.Keep(t.Context(), 10), "it does not go back")
	again := &ranges{next: 21}
	l.follow(t, l.feed.Tail("followers"), again.handle)
	require.Eventually(t, func() bool { return again.upTo() == 30 }, 10*time.Second, time.Millisecond)
	require.Empty(t, again.bad)
}

func TestARangeThatCouldNotBeHandledComesAgain(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "t", 5)
	var mu sync.Mutex
	tries := 0
	seen := &ranges{next: 1}
	l.follow(t, l.feed.Tail("followers"), func(msg *message.Message) error {
		mu.Lock()
		tries++
		failing := tries < 3
		mu.Unlock()
		if failing {
			return errors.New("not now")
		}
		return seen.handle(msg)
	})
	require.Eventually(t, func() bool { return seen.upTo() == 5 }, 20*time.Second, time.Millisecond)
	require.Empty(t, seen.bad)
}

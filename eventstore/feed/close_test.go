package feed_test

import (
	"context"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/feed"
)

func TestCloseIsPromptWhileTheSubscriberWaitsForEvents(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	subscriber := l.feed.Events("test", nil)
	messages, err := subscriber.Subscribe(context.Background(), "work")
	require.NoError(t, err)
	promptly(t, "close", func() { require.NoError(t, subscriber.Close()) })
	_, open := <-messages
	require.False(t, open)
	promptly(t, "close twice", func() { require.NoError(t, subscriber.Close()) })
	_, err = subscriber.Subscribe(context.Background(), "work")
	require.ErrorIs(t, err, feed.ErrClosed)
}

func TestCloseIsPromptAtTheGate(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "work", 1)
	subscriber := l.feed.Events("test", newSlots(0))
	_, err := subscriber.Subscribe(context.Background(), "work")
	require.NoError(t, err)
	promptly(t, "close", func() { require.NoError(t, subscriber.Close()) })
}

func TestCloseIsPromptWhilePaused(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "a", 1)
	consumer, _ := pausedConsumer(t, l, cannotFold)
	promptly(t, "close", func() { require.NoError(t, consumer.Close()) })
}

func TestCloseIsPromptWhileAMessageIsNotAcked(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "work", 2)
	subscriber := l.feed.Events("test", nil)
	messages, err := subscriber.Subscribe(context.Background(), "work")
	require.NoError(t, err)
	receive(t, messages)
	promptly(t, "close", func() { require.NoError(t, subscriber.Close()) })
}

func TestCloseIsPromptWhileAnotherProcessHoldsTheCheckpoint(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "work", 2)
	holder, waiter := l.feed.Events("test", nil), l.feed.Events("test", nil)
	messages, err := holder.Subscribe(context.Background(), "work")
	require.NoError(t, err)
	receive(t, messages)
	_, err = waiter.Subscribe(context.Background(), "work")
	require.NoError(t, err)
	eventually(t, func() bool { return l.lockWaits(t) == 1 }, "the second waits for the first")
	promptly(t, "close", func() { require.NoError(t, waiter.Close()) })
	require.NoError(t, holder.Close())
	eventually(t, func() bool { return l.lockWaits(t) == 0 }, "Postgres has heard of it as well")
}

func TestCloseIsPromptWhileTheDatabaseIsGone(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	pool, err := pgxpool.New(context.Background(), l.dsn)
	require.NoError(t, err)
	subscriber := feed.New(pool, l.store, quiet()).Events("test", nil)
	_, err = subscriber.Subscribe(context.Background(), "work")
	require.NoError(t, err)
	pool.Close() // every read fails from here on
	l.append(t, "work", 1)
	promptly(t, "close", func() { require.NoError(t, subscriber.Close()) })
}

func TestTheEndOfItsContextEndsASubscription(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	ctx, cancel := context.WithCancel(context.Background())
	subscriber := l.feed.Events("test", nil)
	messages, err := subscriber.Subscribe(ctx, "work")
	require.NoError(t, err)
	cancel()
	_, open := receiveOrClosed(t, messages)
	require.False(t, open)
	require.NoError(t, subscriber.Close())
}

func receiveOrClosed(t testing.TB, from <-chan *message.Message) (msg *message.Message, open bool) {
	t.Helper()
	eventually(t, func() bool {
		select {
		case msg, open = <-from:
			return true
		default:
			return false
		}
	}, "a message or the end")
	return msg, open
}

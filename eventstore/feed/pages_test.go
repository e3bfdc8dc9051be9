package feed_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
)

func TestPagesCoverTheLogWithoutGapOrRepetition(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "a", 2500)
	next := eventstore.Position(1)
	consumer := l.project(t, "test", func(_ context.Context, _ feed.Tx, page feed.Page) error {
		require.Equal(t, next, page.From)
		next = page.To + 1
		return nil
	})
	wait(t, consumer, 2500)
	for range 20 {
		wait(t, consumer, l.append(t, "b", 3))
	}
	require.Equal(t, 2560, l.seen(t, "test"))
	require.EqualValues(t, 2560, l.checkpoint(t, "test", feed.All))
	require.EqualValues(t, 2560, consumer.Status().Position)
}

func TestAPageYieldsTheEventsOfTheLog(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	l.append(t, "a", 3)
	var want, got, again []eventstore.Event
	for event, err := range l.store.ReadAll(context.Background(), 0) {
		require.NoError(t, err)
		want = append(want, event)
	}
	consumer := l.project(t, "test", func(ctx context.Context, tx feed.Tx, page feed.Page) error {
		for event := range page.Events(ctx, tx) {
			got = append(got, event)
		}
		for event := range page.Events(ctx, tx) {
			again = append(again, event)
		}
		return nil
	})
	wait(t, consumer, 3)
	require.Equal(t, want, got)
	require.Equal(t, want, again)
}

func TestAPageEndsEarlyWhenItsEventsAreLarge(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	for range 5 {
		write := eventstore.Write{StreamID: uuid.New(), Events: []eventstore.NewEvent{newEvent("large", make([]byte, 6<<20))}}
		_, err := l.store.Append(context.Background(), write)
		require.NoError(t, err)
	}
	var sizes []eventstore.Position
	consumer := l.project(t, "test", func(_ context.Context, _ feed.Tx, page feed.Page) error {
		sizes = append(sizes, page.To-page.From+1)
		return nil
	})
	wait(t, consumer, 5)
	require.Equal(t, []eventstore.Position{3, 2}, sizes)
}

func TestOnlyWhatAConsumerWantsCountsAndIsYielded(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	for range 4 {
		write := eventstore.Write{StreamID: uuid.New(), Events: []eventstore.NewEvent{newEvent("others", make([]byte, 6<<20))}}
		_, err := l.store.Append(context.Background(), write)
		require.NoError(t, err)
		l.append(t, "a", 1)
	}
	var pages []feed.Page
	var yielded []eventstore.Position
	consumer := l.project(t, "test", func(ctx context.Context, tx feed.Tx, page feed.Page) error {
		pages = append(pages, page)
		for event := range page.Events(ctx, tx) {
			disclosure, plain := eventstore.PlainDisclosure(event.Data)
			require.True(t, plain)
			require.Equal(t, "{}", string(eventstore.Content(disclosure)))
			yielded = append(yielded, event.Position)
		}
		return nil
	})
	wait(t, consumer, 8)
	require.Len(t, pages, 1, "24 MB that others want do not end a page")
	require.Equal(t, []eventstore.Position{2, 4, 6, 8}, yielded)
}

func TestWhatAFailedAttemptWroteIsUndone(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	position := l.append(t, "a", 10)
	attempts := 0
	consumer := l.project(t, "test", func(ctx context.Context, tx feed.Tx, _ feed.Page) error {
		if attempts++; attempts == 1 {
			_, err := tx.Exec(ctx, "insert into seen values ('test', 1)") // is there already: breaks the transaction
			return err
		}
		return nil
	})
	wait(t, consumer, position)
	require.Equal(t, 2, attempts)
	require.Equal(t, 10, l.seen(t, "test"))
}

func TestReadModelAndCheckpointMoveTogetherWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	position := l.append(t, "a", 10)
	breaks := 0
	consumer := l.project(t, "test", func(ctx context.Context, tx feed.Tx, _ feed.Page) error {
		if breaks++; breaks > 3 {
			return nil
		}
		_, err := tx.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
		return err
	})
	wait(t, consumer, position)
	require.Equal(t, 4, breaks)
	require.Equal(t, 10, l.seen(t, "test"))
	require.False(t, consumer.Status().Paused)
}

// watermill-sql only logs a commit that fails, and would otherwise repeat it as fast as it can.
func TestACommitThatFailsIsRepeatedAfterAWait(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	_, err := l.pool.Exec(context.Background(), "create table late (n int unique deferrable initially deferred)")
	require.NoError(t, err)
	position := l.append(t, "a", 10)
	attempts, start := 0, time.Now()
	consumer := l.project(t, "test", func(ctx context.Context, tx feed.Tx, _ feed.Page) error {
		if attempts++; attempts > 2 {
			return nil
		}
		_, err := tx.Exec(ctx, "insert into late values (1), (1)") // fails at the commit
		return err
	})
	wait(t, consumer, position)
	require.Equal(t, 3, attempts)
	require.Equal(t, 10, l.seen(t, "test"))
	require.GreaterOrEqual(t, time.Since(start), 150*time.Millisecond)
}

// watermill-sql commits what is open when it is closed. Neither a handler that is cut short in the middle of its work
// nor one that does not care may leave a part of a page behind.
func TestAPageThatIsCutShortByCloseIsNotCommitted(t *testing.T) {
	t.Parallel()
	for round := range 10 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			l := openLog(t)
			position := l.append(t, "a", 10)
			written := make(chan struct{})
			consumer := l.feed.Pages("test", "a")
			router := l.router(t, func(r *message.Router) {
				r.AddConsumerHandler("test", feed.All, consumer, record("test", func(ctx context.Context, _ feed.Tx, _ feed.Page) error {
					close(written)
					<-ctx.Done()
					return nil
				}))
			})
			receive(t, written)
			require.NoError(t, router.Close())
			require.Zero(t, l.seen(t, "test"))
			require.Zero(t, l.checkpoint(t, "test", feed.All))

			wait(t, l.project(t, "test", nothing), position)
			require.Equal(t, 10, l.seen(t, "test"))
		})
	}
}

func TestProcessesTakeTurnsOnOneConsumer(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	other := openProcess(t, l.dsn)
	consumers := []*feed.Consumer{l.project(t, "test", nothing), other.project(t, "test", nothing)}
	var position eventstore.Position
	for range 50 {
		l.append(t, "a", 7)
		position = other.append(t, "b", 7)
	}
	for _, consumer := range consumers {
		wait(t, consumer, position)
	}
	require.Equal(t, 700, l.seen(t, "test"))
}

func TestWaitSeesWhatAnotherProcessHasCommitted(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	other := openProcess(t, l.dsn)
	other.project(t, "test", nothing)
	wait(t, l.feed.Pages("test"), l.append(t, "a", 5)) // does not read itself
	require.Equal(t, 5, l.seen(t, "test"))
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	consumer := l.project(t, "test", nothing)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, consumer.Wait(ctx, 1), context.Canceled)
	require.NoError(t, consumer.Wait(context.Background(), 0))
}

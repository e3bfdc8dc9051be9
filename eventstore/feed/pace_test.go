package feed

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAConsumerRestsAfterAPageUnlessThereIsMoreOrSomebodyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		rest := func(events int64, work time.Duration) time.Duration {
			p.read(events)
			time.Sleep(work)
			began := time.Now()
			require.NoError(t, p.keep(t.Context()))
			return time.Since(began)
		}
		began := time.Now()
		require.NoError(t, p.keep(t.Context()))
		require.Zero(t, time.Since(began), "the first page is read at once")
		require.Zero(t, rest(10, time.Millisecond), "little happens")
		var rested time.Duration
		for range 100 {
			rested += rest(10, time.Millisecond)
		}
		require.InDelta(t, (100*(restPerWork-1)*time.Millisecond - mayOwe).Seconds(), rested.Seconds(), 0.01, "much happens")
		require.Equal(t, longestRest, rest(10, time.Second))
		require.Zero(t, rest(pageEvents, time.Second), "there is more to read")

		done := p.await()
		require.Zero(t, rest(10, time.Second), "somebody waits")
		done()
		require.Equal(t, longestRest, rest(10, time.Second))

		time.AfterFunc(time.Second+longestRest/2, func() { p.await() })
		require.Equal(t, longestRest/2, rest(10, time.Second), "somebody has come")
	})
}

func TestTheEndEndsARest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		p.read(10)
		time.Sleep(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		began := time.Now()
		require.ErrorIs(t, p.keep(ctx), context.Canceled)
		require.Equal(t, time.Millisecond, time.Since(began))
	})
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

const (
	// benchRounds is how many rounds each contender has. They take turns, and the best round counts: what else happens on
	// the machine only ever takes away.
	benchRounds = 5
	roundTime   = 700 * time.Millisecond
	payloadSize = 300 // bytes of an event
)

// The ratios below which the log has lost what it is for.
const (
	leastOfCopy           = 0.3  // of the rows that COPY writes, 128 writers of one event
	leastOfCopyByTens     = 0.45 // the same with ten events a command
	leastOfUnordered      = 1.8  // of a transaction for each event without any order, 128 writers
	leastOfOrdered        = 10.0 // of a transaction for each event in order, 32 writers
	leastOfThreeProcesses = 0.7  // of what one process appends with as many writers
	leastOfSlowFlush      = 0.7  // of what a millisecond a flush has to cost
	leastOfCopyOut        = 0.6  // of the rows that COPY reads
	mostGrowth            = 1.3  // of what it costs with a hundredth of the events
)

// contender is a way to do something, with how many do it at once.
type contender struct {
	name    string
	writers int
	events  int // that one call appends or reads
	call    func(ctx context.Context) error

	rates    []float64 // events a second, of each round
	p50, p99 []time.Duration
}

// alternate lets all contenders have a go, again and again.
func alternate(b *testing.B, contenders ...*contender) {
	b.Helper()
	for b.Loop() {
		for range benchRounds {
			for _, c := range contenders {
				require.NoError(b, c.round(), c.name)
			}
		}
	}
	for _, c := range contenders {
		b.Logf("%-42s %4d at once %9.0f events/s   median %8s   p99 %8s", c.name, c.writers, c.rate(),
			c.median().Round(time.Microsecond), slices.Min(c.p99).Round(time.Microsecond))
	}
}

func (c *contender) rate() float64         { return slices.Max(c.rates) }
func (c *contender) median() time.Duration { return slices.Min(c.p50) }

// requireRatio prints how a contender does beside another one. The benchmark fails in the end when that is not enough.
func requireRatio(b *testing.B, name string, rate, baseline, least float64) {
	b.Helper()
	ratio := rate / baseline
	b.ReportMetric(ratio, name)
	b.Logf("%-42s %6.2f (at least %.2f)", name, ratio, least)
	if ratio < least {
		b.Errorf("%s is %.2f, but has to be %.2f at least", name, ratio, least)
	}
}

// round lets all of a contender's writers call for a while.
func (c *contender) round() error {
	var mu sync.Mutex
	var times []time.Duration
	var failure error
	var writers sync.WaitGroup
	started := time.Now()
	for range c.writers {
		writers.Go(func() {
			mine, err := c.callUntil(started.Add(roundTime))
			mu.Lock()
			defer mu.Unlock()
			times, failure = append(times, mine...), errors.Join(failure, err)
		})
	}
	writers.Wait()
	if failure != nil {
		return failure
	}
	c.rates = append(c.rates, float64(len(times)*c.events)/time.Since(started).Seconds())
	c.p50, c.p99 = append(c.p50, quantile(times, 50)), append(c.p99, quantile(times, 99))
	return nil
}

// callUntil returns how long each of one writer's calls took.
func (c *contender) callUntil(end time.Time) (times []time.Duration, err error) {
	for begin := time.Now(); begin.Before(end); {
		if err := c.call(context.Background()); err != nil {
			return times, err
		}
		now := time.Now()
		times = append(times, now.Sub(begin))
		begin = now
	}
	return times, nil
}

// quantile is the time that so many percent of the calls took at most. There was one call at least.
func quantile(times []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

// BenchmarkAppend compares the log's appends with what Postgres does without it, in the same run and on the same server:
// COPY of the same rows, one transaction an append without any order (a sequence gives the positions), and one
// transaction an append in order (the head row is locked). The ratios are what counts; the rates are this machine's.
func BenchmarkAppend(b *testing.B) {
	dsn := benchServer(b, goodDisk)
	store, baseline := openStore(b, dsn), newBaseline(b, dsn)
	log := func(writers, events int) *contender {
		return &contender{name: fmt.Sprintf("append %d", events), writers: writers, events: events, call: appendTo(store, events)}
	}
	log1, log32, log128, log256, tens := log(1, 1), log(32, 1), log(128, 1), log(256, 1), log(128, 10)
	copied := &contender{name: "COPY, 1000 rows a transaction", writers: 1, events: copyRows, call: baseline.copyIn(b)}
	unordered := &contender{name: "INSERT, a transaction each, unordered", writers: 128, events: 1, call: baseline.insertUnordered}
	ordered := &contender{name: "INSERT, a transaction each, ordered", writers: 32, events: 1, call: baseline.insertOrdered}
	alternate(b, log1, log32, log128, log256, tens, copied, unordered, ordered)
	requireRatio(b, "append@128/COPY", log128.rate(), copied.rate(), leastOfCopy)
	requireRatio(b, "append10@128/COPY", tens.rate(), copied.rate(), leastOfCopyByTens)
	requireRatio(b, "append@128/unordered", log128.rate(), unordered.rate(), leastOfUnordered)
	requireRatio(b, "append@32/ordered", log32.rate(), ordered.rate(), leastOfOrdered)
}

// appendTo appends a new stream of so many events.
func appendTo(store *postgres.Store, events int) func(context.Context) error {
	return func(ctx context.Context) error {
		w := eventstore.Write{StreamID: newID(), Expected: eventstore.New}
		for range events {
			w.Events = append(w.Events, benchEvent())
		}
		_, err := store.Append(ctx, w)
		return err
	}
}

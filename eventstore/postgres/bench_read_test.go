package postgres_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// BenchmarkReadAll compares reading the log with what Postgres can send of it at most: the same columns in the same order
// and in the same format, with nobody who looks at them.
func BenchmarkReadAll(b *testing.B) {
	const events = 100_000
	dsn := benchServer(b, goodDisk)
	log := fill(b, dsn, events)
	conn := connect(b, dsn)
	copied := &contender{name: "COPY TO STDOUT", writers: 1, events: events, call: func(ctx context.Context) error {
		_, err := conn.PgConn().CopyTo(ctx, io.Discard,
			"copy (select "+postgres.EventColumns+" from events order by position) to stdout (format binary)")
		return err
	}}
	read := &contender{name: "read all", writers: 1, events: events, call: func(ctx context.Context) error {
		return drain(log.ReadAll(ctx, 0), events)
	}}
	alternate(b, read, copied)
	requireRatio(b, "read-all/COPY", read.rate(), copied.rate(), leastOfCopyOut)
}

// drain reads events to their end, and requires that there are so many.
func drain(events func(func(eventstore.Event, error) bool), want int) error {
	n := 0
	for _, err := range events {
		if err != nil {
			return err
		}
		n++
	}
	if n != want {
		return fmt.Errorf("read %d events of %d", n, want)
	}
	return nil
}

// BenchmarkGrowth does the same to logs of ten thousand, a hundred thousand and a million events.
func BenchmarkGrowth(b *testing.B) {
	server := benchServer(b, goodDisk)
	var all, appends, appendsAtOnce, reads []*contender
	for _, events := range []int{10_000, 100_000, 1_000_000} {
		began := time.Now()
		log := fill(b, newDatabase(b, server, fmt.Sprintf("log_of_%d", events)), events)
		b.Logf("%d events were written in %s", events, time.Since(began).Round(time.Millisecond))
		one := appendTo(log.Store, 1)
		appends = append(appends, &contender{name: fmt.Sprintf("append 1 to %d", events), writers: 1, events: 1, call: one})
		appendsAtOnce = append(appendsAtOnce, &contender{name: fmt.Sprintf("append 1 to %d", events), writers: 32, events: 1, call: one})
		reads = append(reads, &contender{
			name: fmt.Sprintf("read an execution of %d", events), writers: 1, events: executionEvents, call: readAnyOf(log),
		})
	}
	all = append(append(append(all, appends...), appendsAtOnce...), reads...)
	alternate(b, all...)
	requireNoGrowth(b, "append@1", appends)
	requireNoGrowth(b, "append@32", appendsAtOnce)
	requireNoGrowth(b, "read-execution", reads)
}

// readAnyOf reads any execution of a log, as often an old one as a new one.
func readAnyOf(log filledLog) func(context.Context) error {
	return func(ctx context.Context) error {
		return drain(log.ReadStream(ctx, log.stream(rand.IntN(log.executions)), 0), executionEvents)
	}
}

// requireNoGrowth compares what a call takes on the largest log with what it takes on the smallest.
func requireNoGrowth(b *testing.B, name string, bySize []*contender) {
	b.Helper()
	growth := float64(bySize[len(bySize)-1].median()) / float64(bySize[0].median())
	b.Logf("%-42s %6.2f (at most %.2f)", name+", a hundred times the events", growth, mostGrowth)
	b.ReportMetric(growth, name+"-growth")
	if growth > mostGrowth {
		b.Errorf("%s takes %.2f times as long, but must not take more than %.2f", name, growth, mostGrowth)
	}
}

package feed_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
)

// BenchmarkAppendToHandlerIdle measures from the call of Append to the start of the handler, when nothing else happens.
func BenchmarkAppendToHandlerIdle(b *testing.B) {
	b.Run("events", func(b *testing.B) {
		l := openLog(b)
		started := make(chan time.Time, 1)
		l.consume(b, "work", nil, func(*message.Message) error {
			started <- time.Now()
			return nil
		})
		l.measure(b, started)
	})
	b.Run("pages", func(b *testing.B) {
		l := openLog(b)
		started := make(chan time.Time, 1)
		consumer := l.feed.Pages("test")
		l.router(b, func(r *message.Router) {
			r.AddConsumerHandler("test", feed.All, consumer, func(*message.Message) error {
				started <- time.Now()
				return nil
			})
		})
		l.measure(b, started)
	})
}

func (l *log) measure(b *testing.B, started <-chan time.Time) {
	var all []time.Duration
	for b.Loop() {
		start := time.Now()
		l.append(b, "work", 1)
		all = append(all, receive(b, started).Sub(start))
		time.Sleep(2 * time.Millisecond) // let the subscriber commit and go back to waiting
	}
	slices.Sort(all)
	b.ReportMetric(milliseconds(all[len(all)/2]), "p50-ms")
	b.ReportMetric(milliseconds(all[len(all)*99/100]), "p99-ms")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkAppendToReadYourOwnWrite measures from the call of Append until Wait has seen the projection's commit.
func BenchmarkAppendToReadYourOwnWrite(b *testing.B) {
	l := openLog(b)
	consumer := l.project(b, "test", nothing)
	for b.Loop() {
		wait(b, consumer, l.append(b, "work", 1))
	}
}

// BenchmarkPages measures how fast a consumer that only reads goes through a backlog.
func BenchmarkPages(b *testing.B) {
	l := openLog(b)
	const n = 50_000
	var head eventstore.Position
	for range n / 5000 {
		head = l.append(b, "work", 5000)
	}
	for b.Loop() {
		b.StopTimer()
		if _, err := l.pool.Exec(context.Background(), "delete from checkpoints"); err != nil {
			b.Fatal(err)
		}
		consumer := l.feed.Pages("test", "work")
		b.StartTimer()
		router := l.router(b, func(r *message.Router) {
			r.AddConsumerHandler("test", feed.All, consumer, func(msg *message.Message) error {
				return feed.InPage(msg, func(ctx context.Context, tx feed.Tx, page feed.Page) error {
					for _, err := range page.Events(ctx, tx) {
						if err != nil {
							return err
						}
					}
					return nil
				})
			})
		})
		wait(b, consumer, head)
		b.StopTimer()
		_ = router.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkEvents measures how fast single messages go through the router.
func BenchmarkEvents(b *testing.B) {
	l := openLog(b)
	const n = 5000
	l.append(b, "work", n)
	for b.Loop() {
		b.StopTimer()
		if _, err := l.pool.Exec(context.Background(), "delete from checkpoints"); err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		handled := 0
		subscriber := l.feed.Events("test", nil)
		b.StartTimer()
		router := l.router(b, func(r *message.Router) {
			r.AddConsumerHandler("test", "work", subscriber, func(*message.Message) error {
				if handled++; handled == n {
					close(done)
				}
				return nil
			})
		})
		<-done
		b.StopTimer()
		_ = router.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s")
}

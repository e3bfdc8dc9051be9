package feed

import (
	"context"
	"sync/atomic"
	"time"
)

// A consumer of pages lets a busy log grow before it reads again: it owes so many times as much rest as its pages take, may owe
// that much before it rests, and rests no longer than that at once. A page costs the same few round trips and a flush however
// little is in it. One that follows a log in which little happens reads at once, and so does one that has more to read than a
// page, or that somebody waits for.
const (
	restPerWork = 4
	mayOwe      = 25 * time.Millisecond
	longestRest = 100 * time.Millisecond
)

// pace keeps a consumer from reading a busy log in small pieces.
type pace struct {
	waiting atomic.Int32  // those who wait for the consumer
	hurry   chan struct{} // holds a token when one has come
	began   time.Time     // when the last page was read; zero when it was full, or its rest is taken
	owed    time.Duration // rest, at settled
	settled time.Time
}

func newPace() *pace { return &pace{hurry: make(chan struct{}, 1)} }

// await lets somebody wait, until done is called.
func (p *pace) await() (done func()) {
	p.waiting.Add(1)
	select {
	case p.hurry <- struct{}{}:
	default:
	}
	return func() { p.waiting.Add(-1) }
}

// read notes that a page of so many events is read now.
func (p *pace) read(events int64) {
	p.began = time.Now()
	if events >= pageEvents {
		p.began = time.Time{}
	}
}

// keep returns when the consumer may read again.
func (p *pace) keep(ctx context.Context) error {
	for rest := p.settle(); rest > 0 && p.waiting.Load() == 0; rest = p.settle() {
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-p.hurry:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// settle counts what the last page has cost and what time has paid of it, and returns how long to rest.
func (p *pace) settle() time.Duration {
	now := time.Now()
	p.owed = max(0, p.owed-now.Sub(p.settled))
	p.settled = now
	if !p.began.IsZero() {
		p.owed = min(p.owed+restPerWork*now.Sub(p.began), mayOwe+longestRest)
		p.began = time.Time{}
	}
	return max(0, p.owed-mayOwe)
}

package feed

import (
	"context"
	"sync/atomic"
	"time"
)

// How long a consumer of pages lets the log grow before it reads again: so much for each event of its last page, and no more
// than that. A page costs the same few round trips and a flush however much is in it. One that follows a quiet log reads at
// once, and so does one that somebody waits for.
const (
	pacePerEvent = 50 * time.Microsecond
	longestPace  = 25 * time.Millisecond
)

// pace keeps a consumer from reading a busy log in small pieces.
type pace struct {
	waiting atomic.Int32  // those who wait for the consumer
	hurry   chan struct{} // holds a token when one has come
	next    time.Time     // when the consumer may read again
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

// read notes that a page of so many events is read.
func (p *pace) read(events int64) {
	p.next = time.Now().Add(min(time.Duration(events)*pacePerEvent, longestPace))
}

// keep returns when the consumer may read again.
func (p *pace) keep(ctx context.Context) error {
	for wait := time.Until(p.next); wait > 0 && p.waiting.Load() == 0; wait = time.Until(p.next) {
		timer := time.NewTimer(wait)
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

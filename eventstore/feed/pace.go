package feed

import (
	"context"
	"sync/atomic"
	"time"
)

// A consumer of pages lets the log grow for a while before it reads again: so many times as long as its last page took, and
// no longer than that. A page costs the same few round trips and a flush however little is in it. One that follows a quiet
// log reads at once, and so does one that has more to read than a page, or that somebody waits for.
const (
	restPerWork = 8
	longestRest = 100 * time.Millisecond
)

// pace keeps a consumer from reading a busy log in small pieces.
type pace struct {
	waiting atomic.Int32  // those who wait for the consumer
	hurry   chan struct{} // holds a token when one has come
	began   time.Time     // when the last page was read; zero when it was full
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
	if p.began.IsZero() {
		return ctx.Err()
	}
	next := time.Now().Add(min(restPerWork*time.Since(p.began), longestRest))
	p.began = time.Time{}
	for wait := time.Until(next); wait > 0 && p.waiting.Load() == 0; wait = time.Until(next) {
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

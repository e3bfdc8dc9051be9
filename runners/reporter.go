package runners

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/voltrun/voltrun/domain"
)

// When lines are reported: together, a moment after the first, or as soon as they are many. The moment bounds how far
// behind a live log is; it lets the lines of a short run travel with its end.
const (
	batchDelay    = 50 * time.Millisecond
	maxBatchLines = 500
	maxBatchBytes = 64 << 10
)

// How long to wait before a report that failed is tried again.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// reporter takes what a run prints and how it ends to the recorder. While a report is under way, lines wait in the
// channel; when that is full, the run waits: what a handler prints is never held without bound.
type reporter struct {
	recorder Recorder
	attempt  *domain.Attempt
	giveUp   context.Context // ends when what is not recorded yet must be dropped
	lost     func()          // stops a run that nobody wants any more
	lines    chan domain.ExecutionLogLine
	end      chan domain.Event

	batch    []domain.ExecutionLogLine
	size     int
	unwanted bool // the execution is not the worker's any more, or there is no time left
}

// report returns when the end is recorded, or nobody wants it any more and the run is over.
func (r *reporter) report() {
	var due <-chan time.Time
	for {
		select {
		case line := <-r.lines:
			r.add(line)
			if len(r.batch) == 1 {
				due = time.After(batchDelay)
			}
			if len(r.batch) >= maxBatchLines || r.size >= maxBatchBytes {
				r.send(nil)
			}
		case <-due:
			r.send(nil)
		case end := <-r.end:
			r.takeWaiting()
			r.send(end)
			return
		}
	}
}

// takeWaiting takes what is left in the channel. The run is over: nothing comes after it.
func (r *reporter) takeWaiting() {
	for {
		select {
		case line := <-r.lines:
			r.add(line)
		default:
			return
		}
	}
}

func (r *reporter) add(line domain.ExecutionLogLine) {
	r.batch = append(r.batch, line)
	r.size += len(line.Text)
}

// send records the batch and the end, however often it takes.
func (r *reporter) send(end domain.Event) {
	lines := r.batch
	r.batch, r.size = nil, 0
	if r.unwanted || (len(lines) == 0 && end == nil) {
		return
	}
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := r.recorder.Report(r.giveUp, r.attempt, lines, end)
		switch {
		case err == nil:
			return
		case errors.Is(err, domain.ErrNotRunning) || r.giveUp.Err() != nil:
			slog.Warn("a run is not recorded any further", "execution", r.attempt.Execution.ID, "error", err)
			r.unwanted = true
			r.lost()
			return
		}
		slog.Warn("a report failed and is tried again", "execution", r.attempt.Execution.ID, "in", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-r.giveUp.Done():
		}
	}
}

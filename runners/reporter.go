package runners

import (
	"context"
	"errors"
	"log/slog"
	"strings"
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

// How long to wait before a report that failed is tried again, and after how many tries (more than a minute) it may be
// the report itself that fails.
const (
	firstRetry   = 50 * time.Millisecond
	lastRetry    = 5 * time.Second
	patientTries = 20
)

// unrecordable is the end of an execution whose own report fails for good.
var unrecordable = domain.ExecutionFailed{
	ErrorType: domain.ErrorInternal,
	Error: "VoltRun could not record what the function printed or answered. The function may have run in full; " +
		"run it again if that does no harm. If that does not help, tell the operator.",
}

// reporter takes what a run prints and how it ends to the recorder. While a report is under way, lines wait in the
// channel; when that is full, the run waits: what a handler prints is never held without bound.
type reporter struct {
	recorder Recorder
	attempt  *domain.Attempt
	giveUp   context.Context // ends when what is not recorded yet must be dropped
	stopRun  func()          // stops a run that nobody wants any more
	logger   *slog.Logger
	lines    chan domain.ExecutionLogLine
	end      chan domain.Event

	batch    []domain.ExecutionLogLine
	size     int
	tail     []byte
	unwanted bool // nothing more of the run is recorded
}

// maxTail is how much of the log goes with an outcome, in bytes; as much as AWS Lambda tells.
const maxTail = 4096

// report returns when the end is recorded, or nobody wants it any more and the run is over.
func (r *reporter) report() domain.Outcome {
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
			if end = r.send(end); end == nil {
				return domain.Outcome{}
			}
			return domain.Outcome{End: end, LogTail: strings.ToValidUTF8(string(r.tail[max(0, len(r.tail)-maxTail):]), "")}
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
	r.tail = append(append(r.tail, line.Text...), '\n')
	if len(r.tail) > 2*maxTail {
		r.tail = append(r.tail[:0], r.tail[len(r.tail)-maxTail:]...)
	}
}

// send records the batch and the end, however often it takes, and returns the end that was recorded. A report that fails for good must not hold its slot for
// ever: in the end a failure is tried in its place. While the store is away that fails as well, and both go on.
func (r *reporter) send(end domain.Event) domain.Event {
	lines := r.batch
	r.batch, r.size = nil, 0
	if r.unwanted || (len(lines) == 0 && end == nil) {
		return nil
	}
	for try, wait := 1, firstRetry; ; try, wait = try+1, min(2*wait, lastRetry) {
		err := r.recorder.Report(r.giveUp, r.attempt, lines, end)
		switch {
		case err == nil:
			return end
		case errors.Is(err, domain.ErrNotRunning) || r.giveUp.Err() != nil:
			r.logger.Warn("a run is not recorded any further", "execution", r.attempt.Execution.ID, "error", err)
			r.drop()
			return nil
		case try >= patientTries && r.recorder.Report(r.giveUp, r.attempt, nil, unrecordable) == nil:
			r.logger.Error("a run could not be recorded and was ended as a failure", "execution", r.attempt.Execution.ID, "error", err)
			r.drop()
			return unrecordable
		}
		r.logger.Warn("a report failed and is tried again", "execution", r.attempt.Execution.ID, "in", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-r.giveUp.Done():
		}
	}
}

// drop stops the run, and forgets what still comes of it.
func (r *reporter) drop() {
	r.unwanted = true
	r.stopRun()
}

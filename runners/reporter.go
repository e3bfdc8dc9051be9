package runners

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
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

// maxTail is how much of the log goes with an outcome, in bytes; as much as AWS Lambda tells.
const maxTail = 4096

// reporter takes what a run prints and how it ends to the recorder. While a report is under way, lines wait for the next one;
// when they are many, the run waits: what a handler prints is never held without bound.
type reporter struct {
	recorder Recorder
	attempt  *domain.Attempt
	giveUp   context.Context // ends when what is not recorded yet must be dropped
	stopRun  func()          // stops a run that nobody wants any more
	logger   *slog.Logger

	reports  chan struct{} // holds a token during a report; not a mutex, because a report may take long
	unwanted bool          // nothing more of the run is recorded

	mu    sync.Mutex
	batch []domain.ExecutionLogLine
	size  int
	tail  []byte

	flushing bool          // a full batch is on its way
	taken    chan struct{} // closed when it was taken
	due      *time.Timer   // until the batch is reported; nil before the first line
}

// line takes a line, when there is room for it. The run's lines come one after the other.
func (r *reporter) line(line domain.ExecutionLogLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.flushing && r.full() {
		taken := r.taken
		r.mu.Unlock()
		<-taken
		r.mu.Lock()
	}
	if len(r.batch) == 0 {
		r.reportSoon()
	}
	r.batch = append(r.batch, line)
	r.size += len(line.Text)
	r.tail = append(append(r.tail, line.Text...), '\n')
	if len(r.tail) > 2*maxTail {
		r.tail = append(r.tail[:0], r.tail[len(r.tail)-maxTail:]...)
	}
	if r.full() && !r.flushing {
		r.flushing, r.taken = true, make(chan struct{})
		go r.flush()
	}
}

func (r *reporter) full() bool { return len(r.batch) >= maxBatchLines || r.size >= maxBatchBytes }

// reportSoon lets the batch be reported in a moment.
func (r *reporter) reportSoon() {
	if r.due == nil {
		r.due = time.AfterFunc(batchDelay, r.flush)
		return
	}
	r.due.Reset(batchDelay)
}

// flush reports the lines that there are, and what fills the batch meanwhile.
func (r *reporter) flush() {
	r.reports <- struct{}{}
	defer func() { <-r.reports }()
	for {
		if lines := r.take(); len(lines) > 0 {
			r.send(lines, nil)
		}
		r.mu.Lock()
		if !r.flushing || !r.full() {
			r.flushing = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

// take makes room for more.
func (r *reporter) take() []domain.ExecutionLogLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.batch
	r.batch, r.size = nil, 0
	if r.flushing {
		close(r.taken)
		r.taken = make(chan struct{})
	}
	return lines
}

// end reports how the run ended, with its last lines. It returns when that is recorded, or nobody wants it.
func (r *reporter) end(end domain.Event) domain.Outcome {
	if r.due != nil {
		r.due.Stop()
	}
	r.reports <- struct{}{}
	defer func() { <-r.reports }()
	recorded := r.send(r.take(), end)
	if recorded == nil {
		return domain.Outcome{}
	}
	return domain.Outcome{End: recorded, LogTail: strings.ToValidUTF8(string(r.tail[max(0, len(r.tail)-maxTail):]), "")}
}

// send records lines and the end, however often it takes, and returns the end that was recorded. A report that fails for good must not hold its slot for
// ever: in the end a failure is tried in its place. While the store is away that fails as well, and both go on.
func (r *reporter) send(lines []domain.ExecutionLogLine, end domain.Event) domain.Event {
	if r.unwanted {
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

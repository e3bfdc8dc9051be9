package runners

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Place is room for one execution in an executor. Whoever has one claims an execution and calls Run, or Leave.
type Place struct {
	executor *Executor
	lane     *lane
	outcome  chan domain.Outcome // capacity 1
}

// WorkerID is the worker in whose name the execution is to be claimed.
func (p *Place) WorkerID() uuid.UUID { return p.executor.config.WorkerID }

// Outcome gets how the execution ended, when that is recorded.
func (p *Place) Outcome() <-chan domain.Outcome { return p.outcome }

// Run runs an execution that was claimed, in the background, and gives the place back at its end.
func (p *Place) Run(attempt *domain.Attempt) {
	p.executor.mu.Lock()
	p.executor.held[attempt.Execution.ID] = true
	p.executor.mu.Unlock()
	go p.executor.run(p, attempt)
}

// Leave gives the place back without a run.
func (p *Place) Leave() {
	e := p.executor
	e.mu.Lock()
	e.queue.end(p)
	e.dispatch()
	e.mu.Unlock()
	e.unfinished.Done()
}

// TryEnter returns a place when the function may run at once and nobody waits for that, or nil. The error is ErrStopped, or
// a domain.Busy error when so much of the account waits that nothing more may be accepted.
func (e *Executor) TryEnter(f domain.Function) (*Place, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refusal(f.AccountID); err != nil {
		return nil, err
	}
	l := e.queue.laneOf(f.AccountID, f.ID, f.Concurrency)
	defer e.queue.tidy(l)
	if l.tenant.waiting > 0 || l.limit > 0 && l.running >= l.limit || !e.queue.admits(l.tenant) {
		return nil, nil
	}
	return e.begin(l), nil
}

// Enter waits for a place. The error is ErrStopped, that of ctx, or a domain.Busy error when too many of the account wait.
func (e *Executor) Enter(ctx context.Context, f domain.Function) (*Place, error) {
	t, err := e.enqueue(f)
	if err != nil {
		return nil, err
	}
	select {
	case p := <-t.granted:
		return p, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-e.stopping:
		err = ErrStopped
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case p := <-t.granted: // just now
		return p, nil
	default:
		e.queue.leave(t)
		return nil, err
	}
}

// enqueue lets a call wait for its turn.
func (e *Executor) enqueue(f domain.Function) (*turn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refusal(f.AccountID); err != nil {
		return nil, err
	}
	l := e.queue.laneOf(f.AccountID, f.ID, f.Concurrency)
	if l.held >= e.config.Held {
		return nil, errManyHeld
	}
	t := &turn{lane: l, granted: make(chan *Place, 1)}
	l.held++
	e.queue.push(t)
	e.dispatch()
	return t, nil
}

func (e *Executor) refusal(accountID uuid.UUID) error {
	switch {
	case e.stopped():
		return ErrStopped
	case e.erased[accountID]:
		return domain.ErrAccountErased
	case e.queue.waiting(accountID) >= e.config.Queue:
		return errManyWaiting
	}
	return nil
}

// Offer lets an accepted execution wait for its turn. One that is known already, or that stands in the log behind others
// that are there only, needs no place in memory.
func (e *Executor) Offer(w Waiting) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped() || e.erased[w.AccountID] || e.held[w.ExecutionID] || e.waiting[w.ExecutionID] {
		return
	}
	l := e.queue.laneOf(w.AccountID, w.FunctionID, w.Concurrency)
	if l.beyond > 0 || len(l.turns) >= maxTurns {
		e.count(l, w)
		return
	}
	e.await(l, w)
	e.dispatch()
}

// count notes that something waits in the log. What was offered by the request itself comes once more when the log is
// followed: it counts then.
func (e *Executor) count(l *lane, w Waiting) {
	if w.Attempt != nil {
		return
	}
	if l.beyond == 0 {
		l.after = w.Position - 1
	}
	l.beyond++
	l.tenant.waiting++
}

// maxKeptInput bounds what the queue holds of an execution. What has more is read from the log when its turn comes.
const maxKeptInput = 4 << 10

func (e *Executor) await(l *lane, w Waiting) {
	if w.Attempt != nil && len(w.Attempt.Execution.Input) > maxKeptInput {
		w.Attempt = nil
	}
	e.waiting[w.ExecutionID] = true
	e.queue.push(&turn{lane: l, accepted: &w})
}

// begin takes a place for a lane. e.mu is locked.
func (e *Executor) begin(l *lane) *Place {
	p := e.queue.begin(l)
	p.executor, p.outcome = e, make(chan domain.Outcome, 1)
	e.unfinished.Add(1)
	return p
}

// dispatch gives places to those whose turn it is, as far as there are any. e.mu is locked.
func (e *Executor) dispatch() {
	if e.stopped() {
		return
	}
	for t := e.queue.next(); t != nil; t = e.queue.next() {
		p := e.begin(t.lane)
		e.refill(t.lane)
		if t.granted != nil {
			t.lane.held--
			t.granted <- p
			continue
		}
		delete(e.waiting, t.accepted.ExecutionID)
		e.claiming[t.accepted.ExecutionID] = t.accepted.Position
		e.held[t.accepted.ExecutionID] = true
		go e.start(p, *t.accepted)
	}
}

// start claims an accepted execution and runs it.
func (e *Executor) start(p *Place, w Waiting) {
	attempt := e.claim(w)
	e.mu.Lock()
	delete(e.claiming, w.ExecutionID)
	if attempt == nil {
		delete(e.held, w.ExecutionID)
	}
	e.mu.Unlock()
	if attempt == nil {
		p.Leave()
		return
	}
	e.run(p, attempt)
}

// refill fetches more of a lane whose rest is in the log. e.mu is locked.
func (e *Executor) refill(l *lane) {
	if l.beyond == 0 || l.loading || len(l.turns) >= refillBelow {
		return
	}
	l.loading = true
	go e.load(l, l.after, l.beyond)
}

// load fetches the next of a lane that waits behind a position, of which so many were known.
func (e *Executor) load(l *lane, after int64, known int) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		more, err := e.recorder.Backlog(e.runs, l.tenant.id, l.functionID, after, maxTurns)
		if err == nil {
			e.loaded(l, more, known)
			return
		}
		e.config.Logger.Warn("the waiting executions could not be read; trying again", "account", l.tenant.id, "error", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-e.stopping:
			return
		}
	}
}

// loaded puts what was fetched into its lane. When there was less than asked for, and nothing has come meanwhile, nothing
// is left in the log.
func (e *Executor) loaded(l *lane, more []Waiting, known int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.loading = false
	rest := max(l.beyond-len(more), 1)
	if len(more) < maxTurns && l.beyond == known {
		rest = 0
	}
	l.tenant.waiting -= l.beyond - rest
	l.beyond = rest
	for _, w := range more {
		l.after = w.Position
		if !e.held[w.ExecutionID] && !e.waiting[w.ExecutionID] {
			e.await(l, w)
		}
	}
	e.dispatch()
	e.refill(l)
	e.queue.tidy(l)
}

// Waits returns the position before which nothing waits in the log, when everything up to seen was offered.
func (e *Executor) Waits(seen int64) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := e.queue.first(seen)
	for _, position := range e.claiming {
		first = min(first, position-1)
	}
	return first
}

package runners

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Recorder is what an executor needs of the log.
type Recorder interface {
	// Claim makes a waiting execution this worker's. The error is domain.ErrNotClaimable when there is nothing to run any
	// more: it is claimed, over or unknown, or cannot be run and was ended. After any other error it was not claimed, and
	// the executor comes again.
	Claim(ctx context.Context, waiting Waiting, workerID uuid.UUID) (*domain.Attempt, error)

	// Report records lines and, at the end, how the execution ended (a domain.ExecutionCompleted or a
	// domain.ExecutionFailed; nil while it runs), all or nothing. The error is domain.ErrNotRunning when the execution
	// is not the worker's any more. After any other error nothing was recorded, and the executor comes again with the
	// same report; when that fails for good, with a failure in its place. Reports of one attempt come one after the
	// other.
	Report(ctx context.Context, attempt *domain.Attempt, lines []domain.ExecutionLogLine, end domain.Event) error

	// Backlog lists what waits of a function behind a position, in the order of positions, at most limit of them.
	Backlog(ctx context.Context, accountID, functionID uuid.UUID, after int64, limit int) ([]Waiting, error)
}

var (
	// ErrStopped answers what comes to an executor that was stopped.
	ErrStopped = &domain.Error{Code: domain.Unavailable, Message: "The server is being stopped. Try again in a moment."}

	errManyWaiting = &domain.Error{Code: domain.Busy,
		Message: "Too many executions of this account wait already. Send it again when some of them have run."}
	errManyHeld = &domain.Error{Code: domain.Busy,
		Message: "Too many calls of this function wait for their turn. Send it again in a moment, or use execute, which does not wait."}
)

// DefaultGrace is how long running handlers may go on when the executor stops.
const DefaultGrace = 5 * time.Second

// giveUpGrace is how long Stop waits for handlers to be gone whose ends it does not record any more.
const giveUpGrace = time.Second

// The defaults of an executor, beside the slots.
const (
	DefaultQueue = 500_000
	DefaultHeld  = 1000
)

// ExecutorConfig is how an executor works. What is zero gets its default.
type ExecutorConfig struct {
	WorkerID   uuid.UUID     // must be set, and new with every start; its lease tells others that the executor lives
	Slots      int           // how many handlers run at once; 16 for each processor
	PerAccount int           // how many of them of one account; Slots
	Queue      int           // how many accepted executions of an account may wait; DefaultQueue
	Held       int           // how many calls of a function may wait for their turn before they are accepted; DefaultHeld
	Grace      time.Duration // DefaultGrace
	Logger     *slog.Logger  // slog.Default
}

func (c ExecutorConfig) withDefaults() ExecutorConfig {
	or := func(n *int, fallback int) {
		if *n <= 0 {
			*n = fallback
		}
	}
	or(&c.Slots, 16*runtime.NumCPU())
	or(&c.PerAccount, c.Slots)
	or(&c.Queue, DefaultQueue)
	or(&c.Held, DefaultHeld)
	if c.Grace <= 0 {
		c.Grace = DefaultGrace
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Executor runs executions, as many at once as it has slots, and lets the others wait in fair order. It works from the
// moment it is made.
type Executor struct {
	recorder Recorder
	runner   Runner
	config   ExecutorConfig
	gate     *gate

	stopping   chan struct{} // closed when no new execution is taken any more
	runs       context.Context
	stopRuns   context.CancelFunc
	reports    context.Context
	giveUp     context.CancelFunc
	unfinished sync.WaitGroup

	mu       sync.Mutex
	queue    *queue
	waiting  map[uuid.UUID]bool      // the accepted executions in the queue's turns
	claiming map[uuid.UUID]int64     // those that have had their turn and may not be claimed yet, with their positions
	held     map[uuid.UUID]bool      // the executions in the executor's hands
	active   map[uuid.UUID]activeRun // those of them that run
	erased   map[uuid.UUID]bool      // accounts of which nothing may run
	watched  map[uuid.UUID][]chan<- domain.Outcome
}

// activeRun is what it takes to end a run for its account's sake.
type activeRun struct {
	accountID uuid.UUID
	stop      context.CancelFunc
}

// NewExecutor returns an executor that takes executions at once.
func NewExecutor(recorder Recorder, runner Runner, config ExecutorConfig) *Executor {
	config = config.withDefaults()
	e := &Executor{
		recorder: recorder, runner: runner, config: config, gate: newGate(2 * runtime.NumCPU()), stopping: make(chan struct{}),
		queue:   newQueue(config.Slots, config.PerAccount),
		waiting: map[uuid.UUID]bool{}, claiming: map[uuid.UUID]int64{}, held: map[uuid.UUID]bool{}, active: map[uuid.UUID]activeRun{}, erased: map[uuid.UUID]bool{},
		watched: map[uuid.UUID][]chan<- domain.Outcome{},
	}
	// The runs have contexts of their own: a request that ends must not take them with it.
	e.runs, e.stopRuns = context.WithCancel(context.Background())
	e.reports, e.giveUp = context.WithCancel(context.Background())
	return e
}

// Load is how busy an executor is.
type Load struct {
	Running int `json:"running"`
	Slots   int `json:"slots"`
	Waiting int `json:"waiting"` // as far as this process knows
}

// Load tells how busy the executor is.
func (e *Executor) Load() Load {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := Load{Running: e.queue.running, Slots: e.queue.slots}
	for _, t := range e.queue.tenants {
		l.Waiting += t.waiting
	}
	return l
}

// WorkerID is the worker in whose name executions are claimed.
func (e *Executor) WorkerID() uuid.UUID { return e.config.WorkerID }

// Holds tells whether the execution is in the executor's hands: from before its claim until its end is recorded.
func (e *Executor) Holds(executionID uuid.UUID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held[executionID]
}

// Watch returns a channel that gets the execution's outcome if it ends in this executor from now on. cancel lets go of it.
func (e *Executor) Watch(executionID uuid.UUID) (outcome <-chan domain.Outcome, cancel func()) {
	c := make(chan domain.Outcome, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watched[executionID] = append(e.watched[executionID], c)
	return c, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watched, executionID) // of several, the others look into the read model then
	}
}

func (e *Executor) stopped() bool {
	select {
	case <-e.stopping:
		return true
	default:
		return false
	}
}

// run runs a claimed execution and reports on it until its end is recorded, and gives its place back.
func (e *Executor) run(p *Place, attempt *domain.Attempt) {
	ctx, cancel := context.WithCancel(e.runs)
	defer cancel()
	id := attempt.Execution.ID
	e.activate(id, activeRun{attempt.Execution.AccountID, cancel})
	r := &reporter{recorder: e.recorder, attempt: attempt, giveUp: e.reports, stopRun: cancel, logger: e.config.Logger, reports: make(chan struct{}, 1)}
	outcome := r.end(e.execute(ctx, attempt, r.line))
	e.finish(p, id, outcome)
}

// execute runs the function.
func (e *Executor) execute(ctx context.Context, attempt *domain.Attempt, emit func(domain.ExecutionLogLine)) domain.Event {
	pass := e.gate.enter()
	defer e.gate.leave(pass)
	return e.runner.Run(ctx, Invocation{ExecutionID: attempt.Execution.ID, Function: attempt.Function, Input: attempt.Execution.Input}, emit)
}

// activate makes a run one that can be ended for its account's sake, which may have been erased while it was claimed.
func (e *Executor) activate(id uuid.UUID, run activeRun) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active[id] = run
	if e.erased[run.accountID] {
		run.stop()
	}
}

// finish tells the outcome and gives the place back.
func (e *Executor) finish(p *Place, id uuid.UUID, outcome domain.Outcome) {
	p.outcome <- outcome
	e.mu.Lock()
	for _, c := range e.watched[id] {
		c <- outcome
	}
	delete(e.watched, id)
	delete(e.held, id)
	delete(e.active, id)
	e.mu.Unlock()
	p.Leave()
}

// StopAccount ends the runs of an account that was erased, and lets nothing more of it run. Nobody wants to know how they
// end.
func (e *Executor) StopAccount(accountID uuid.UUID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.erased[accountID] = true
	for _, run := range e.active {
		if run.accountID == accountID {
			run.stop()
		}
	}
}

// Stop takes no new executions, waits for the running ones as long as the grace period allows, then kills the rest,
// which end as domain.ErrorWorkerStopped failures, and returns when every end is recorded. What waits stays in the log for
// the next start. When ctx ends first, what is not recorded by then is left to the rescuer of the next start, and the
// error is that of ctx.
func (e *Executor) Stop(ctx context.Context) error {
	e.refuse()
	done := make(chan struct{})
	go func() { e.unfinished.Wait(); close(done) }()
	if waitFor(ctx, done, e.config.Grace) {
		return nil
	}
	e.stopRuns()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	e.giveUp()
	waitFor(context.Background(), done, giveUpGrace)
	e.config.Logger.ErrorContext(ctx, "executions are left unrecorded", "worker", e.config.WorkerID)
	return ctx.Err()
}

// refuse makes the executor take nothing new.
func (e *Executor) refuse() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stopped() {
		close(e.stopping)
	}
}

// waitFor tells whether done was closed before the time was up or ctx ended.
func waitFor(ctx context.Context, done <-chan struct{}, atMost time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// claim claims a waiting execution, however often that takes, or returns nil when there is nothing to run.
func (e *Executor) claim(w Waiting) *domain.Attempt {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		attempt, err := e.recorder.Claim(e.runs, w, e.config.WorkerID)
		switch {
		case err == nil:
			return attempt
		case errors.Is(err, domain.ErrNotClaimable) || e.stopped():
			return nil // what was not claimed is found in the log by the next start
		}
		e.config.Logger.Warn("an execution could not be claimed; trying again", "execution", w.ExecutionID, "error", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-e.stopping:
		}
	}
}

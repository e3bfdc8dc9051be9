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
	// Claim makes the execution this worker's. The error is domain.ErrNotClaimable when it is claimed, over or unknown.
	// After any other error it was not claimed.
	Claim(ctx context.Context, executionID, workerID uuid.UUID) (*domain.Attempt, error)

	// Report records lines and, at the end, how the execution ended (a domain.ExecutionCompleted or a
	// domain.ExecutionFailed; nil while it runs), all or nothing. The error is domain.ErrNotRunning when the execution
	// is not the worker's any more. After any other error nothing was recorded, and the executor comes again with the
	// same report; when that fails for good, with a failure in its place. Reports of one attempt come one after the
	// other.
	Report(ctx context.Context, attempt *domain.Attempt, lines []domain.ExecutionLogLine, end domain.Event) error
}

// ErrStopped answers what comes to an executor that was stopped.
var ErrStopped = errors.New("the executor is stopped")

// DefaultGrace is how long running handlers may go on when the executor stops.
const DefaultGrace = 5 * time.Second

// giveUpGrace is how long Stop waits for handlers to be gone whose ends it does not record any more.
const giveUpGrace = time.Second

// ExecutorConfig is how an executor works. What is zero gets its default.
type ExecutorConfig struct {
	WorkerID uuid.UUID     // must be set, and new with every start; its lease tells others that the executor lives
	Slots    int           // how many handlers run at once; twice the processors
	Grace    time.Duration // DefaultGrace
	Logger   *slog.Logger  // slog.Default
}

// Executor claims executions and runs them, as many at once as it has slots. It works from the moment it is made.
type Executor struct {
	recorder Recorder
	runner   Runner
	config   ExecutorConfig
	slots    chan struct{} // holds one token for each slot that is taken

	stopping   chan struct{} // closed when no new execution is taken any more
	runs       context.Context
	stopRuns   context.CancelFunc
	reports    context.Context
	giveUp     context.CancelFunc
	unfinished sync.WaitGroup

	mu     sync.Mutex
	held   map[uuid.UUID]bool      // the executions in the executor's hands
	active map[uuid.UUID]activeRun // those of them that run
}

// activeRun is what it takes to end a run for its account's sake.
type activeRun struct {
	accountID uuid.UUID
	stop      context.CancelFunc
}

// NewExecutor returns an executor that takes executions at once.
func NewExecutor(recorder Recorder, runner Runner, config ExecutorConfig) *Executor {
	if config.Slots <= 0 {
		config.Slots = 2 * runtime.NumCPU()
	}
	if config.Grace <= 0 {
		config.Grace = DefaultGrace
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	e := &Executor{
		recorder: recorder, runner: runner, config: config,
		slots: make(chan struct{}, config.Slots), stopping: make(chan struct{}),
		held: map[uuid.UUID]bool{}, active: map[uuid.UUID]activeRun{},
	}
	// The runs have contexts of their own: a subscription that closes must not take them with it.
	e.runs, e.stopRuns = context.WithCancel(context.Background())
	e.reports, e.giveUp = context.WithCancel(context.Background())
	return e
}

// Free returns how many slots are free now.
func (e *Executor) Free() int { return cap(e.slots) - len(e.slots) }

// Slots returns how many handlers run now, and how many may at once.
func (e *Executor) Slots() (running, total int) { return len(e.slots), cap(e.slots) }

// Wait waits until a slot is free, without taking it. The error is ErrStopped or that of ctx.
func (e *Executor) Wait(ctx context.Context) error {
	if err := e.takeSlot(ctx); err != nil {
		return err
	}
	<-e.slots
	return nil
}

func (e *Executor) takeSlot(ctx context.Context) error {
	select {
	case <-e.stopping:
		return ErrStopped
	default:
	}
	select {
	case e.slots <- struct{}{}:
		return nil
	case <-e.stopping:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Execute claims an execution as soon as a slot is free, hands it over and returns: it runs on its own then, and its
// end is recorded whatever becomes of ctx. It also returns nil when there is nothing to do, because the execution is
// another's, over, unknown, or in the executor's hands already. After an error nothing runs: call again later.
func (e *Executor) Execute(ctx context.Context, executionID uuid.UUID) error {
	if err := e.takeSlot(ctx); err != nil {
		return err
	}
	if mine, err := e.hold(executionID); !mine {
		<-e.slots
		return err
	}
	attempt, err := e.recorder.Claim(ctx, executionID, e.config.WorkerID)
	if err != nil {
		e.release(executionID)
		if errors.Is(err, domain.ErrNotClaimable) {
			return nil
		}
		return err
	}
	go func() {
		defer e.release(executionID)
		e.run(attempt)
	}()
	return nil
}

// hold notes that an execution is in the executor's hands, unless it is already.
func (e *Executor) hold(executionID uuid.UUID) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.stopping:
		return false, ErrStopped
	default:
	}
	if e.held[executionID] {
		return false, nil
	}
	e.held[executionID] = true
	e.unfinished.Add(1)
	return true, nil
}

// Holds tells whether the execution is in the executor's hands: from before its claim until its end is recorded.
func (e *Executor) Holds(executionID uuid.UUID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held[executionID]
}

func (e *Executor) release(executionID uuid.UUID) {
	e.mu.Lock()
	delete(e.held, executionID)
	delete(e.active, executionID)
	e.mu.Unlock()
	<-e.slots
	e.unfinished.Done()
}

// run runs a claimed execution and reports on it until its end is recorded.
func (e *Executor) run(attempt *domain.Attempt) {
	ctx, cancel := context.WithCancel(e.runs)
	defer cancel()
	e.mu.Lock()
	e.active[attempt.Execution.ID] = activeRun{attempt.Execution.AccountID, cancel}
	e.mu.Unlock()
	r := &reporter{
		recorder: e.recorder, attempt: attempt, giveUp: e.reports, stopRun: cancel,
		logger: e.config.Logger.With("execution", attempt.Execution.ID),
		lines:  make(chan domain.ExecutionLogLine, maxBatchLines), end: make(chan domain.Event, 1),
	}
	go func() {
		invocation := Invocation{ExecutionID: attempt.Execution.ID, Function: attempt.Function, Input: attempt.Execution.Input}
		r.end <- e.runner.Run(ctx, invocation, func(line domain.ExecutionLogLine) { r.lines <- line })
	}()
	r.report()
}

// StopAccount ends the runs of an account that was erased. Nobody wants to know how they end.
func (e *Executor) StopAccount(accountID uuid.UUID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, run := range e.active {
		if run.accountID == accountID {
			run.stop()
		}
	}
}

// Stop takes no new executions, waits for the running ones as long as the grace period allows, then kills the rest,
// which end as domain.ErrorWorkerStopped failures, and returns when every end is recorded. When ctx ends first, what
// is not recorded by then is left to the rescuer of the next start, and the error is that of ctx.
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
	select {
	case <-e.stopping:
	default:
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

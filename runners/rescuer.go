package runners

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Abandoned is what a rescuer needs of the log.
type Abandoned interface {
	// Unfinished lists the executions that are running by the log, whoever runs them.
	Unfinished(ctx context.Context) ([]Unfinished, error)

	// Alive tells whether a worker holds its lease.
	Alive(ctx context.Context, workerID uuid.UUID) (bool, error)

	// Abandon ends an execution of that worker. It does nothing when the execution is over or another's by now.
	Abandon(ctx context.Context, executionID, workerID uuid.UUID, failure domain.ExecutionFailed) error
}

// Unfinished is an execution that a worker has claimed and not ended.
type Unfinished struct {
	ExecutionID uuid.UUID
	WorkerID    uuid.UUID
}

// How a rescuer works when its configuration says nothing.
const (
	DefaultRescueInterval = 10 * time.Second
	DefaultRescueGrace    = 2 * time.Second
)

// RescuerConfig is how a rescuer works. What is zero gets its default.
type RescuerConfig struct {
	WorkerID uuid.UUID                        // this server's own worker; must be set
	Held     func(executionID uuid.UUID) bool // Executor.Holds: which of its own worker's executions are in good hands; nil: all
	Interval time.Duration                    // between two looks when nobody is suspected
	Grace    time.Duration                    // how long a worker must be seen without a lease before it is taken for dead
	Logger   *slog.Logger                     // slog.Default
}

// Rescuer ends the executions of workers that are gone. One missing lease proves nothing: when the store itself was
// away for a moment, every worker has to renew its own. So a worker is taken for dead only when a second look, a grace
// period after the first, finds it without a lease again.
//
// Its own worker is alive. But an execution of its own that the executor does not hold any more, because the answer to
// a claim or a report was lost, would stay unfinished as long as the server lives: it is ended in the same way.
type Rescuer struct {
	log       Abandoned
	config    RescuerConfig
	suspected map[uuid.UUID]time.Time // workers without a lease, and when they were first seen so

	mu      sync.Mutex
	stop    context.CancelFunc // nil until Start
	stopped chan struct{}
}

// NewRescuer returns a rescuer that Start sets to work.
func NewRescuer(log Abandoned, config RescuerConfig) *Rescuer {
	if config.Interval <= 0 {
		config.Interval = DefaultRescueInterval
	}
	if config.Grace <= 0 {
		config.Grace = DefaultRescueGrace
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Rescuer{log: log, config: config, suspected: map[uuid.UUID]time.Time{}, stopped: make(chan struct{})}
}

// Start looks at once and then from time to time, until Stop. A second call does nothing.
func (r *Rescuer) Start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		return
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() {
		defer close(r.stopped)
		r.work(ctx)
	}()
}

// Stop returns when the rescuer does nothing any more. It may be called twice, and without Start.
func (r *Rescuer) Stop() {
	r.mu.Lock()
	stop := r.stop
	r.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
	<-r.stopped
}

func (r *Rescuer) work(ctx context.Context) {
	for {
		wait := r.config.Interval
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.config.Logger.WarnContext(ctx, "could not look for executions of lost workers", "error", err)
		}
		if len(r.suspected) > 0 {
			wait = min(wait, r.config.Grace)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// look ends what workers left behind that are dead by now. A look that fails clears every suspicion: while the store
// was away, nobody could renew a lease.
func (r *Rescuer) look(ctx context.Context) error {
	unfinished, err := r.log.Unfinished(ctx)
	if err != nil {
		clear(r.suspected)
		return err
	}
	orphans := map[uuid.UUID][]uuid.UUID{}
	for _, u := range unfinished {
		if u.WorkerID != r.config.WorkerID || !r.held(u.ExecutionID) {
			orphans[u.WorkerID] = append(orphans[u.WorkerID], u.ExecutionID)
		}
	}
	if err := r.suspect(ctx, orphans); err != nil {
		clear(r.suspected)
		return err
	}
	for workerID, since := range r.suspected {
		if time.Since(since) >= r.config.Grace {
			r.abandon(ctx, workerID, orphans[workerID])
		}
	}
	return nil
}

// suspect notes which of the workers have no lease, and forgets those that have one or nothing unfinished.
func (r *Rescuer) suspect(ctx context.Context, orphans map[uuid.UUID][]uuid.UUID) error {
	suspected := map[uuid.UUID]time.Time{}
	for workerID := range orphans {
		alive, err := r.alive(ctx, workerID)
		switch since, known := r.suspected[workerID]; {
		case err != nil:
			return err
		case alive:
		case known:
			suspected[workerID] = since
		default:
			suspected[workerID] = time.Now()
		}
	}
	r.suspected = suspected
	return nil
}

// held tells whether the own worker's execution is being run or recorded.
func (r *Rescuer) held(executionID uuid.UUID) bool {
	return r.config.Held == nil || r.config.Held(executionID)
}

// alive takes the own worker for gone where its orphans are concerned: what makes them orphans is that it let go.
func (r *Rescuer) alive(ctx context.Context, workerID uuid.UUID) (bool, error) {
	if workerID == r.config.WorkerID {
		return false, nil
	}
	return r.log.Alive(ctx, workerID)
}

// abandon ends a dead worker's executions. What fails here is found again by the next look.
func (r *Rescuer) abandon(ctx context.Context, workerID uuid.UUID, executionIDs []uuid.UUID) {
	failure := domain.ExecutionFailed{
		ErrorType: domain.ErrorWorkerLost,
		Error:     "The worker that ran this execution was lost before it finished. The function may have run in part; run it again if that does no harm.",
	}
	for _, executionID := range executionIDs {
		logger := r.config.Logger.With("execution", executionID, "worker", workerID)
		if err := r.log.Abandon(ctx, executionID, workerID, failure); err != nil {
			logger.WarnContext(ctx, "could not end an execution of a lost worker", "error", err)
			continue
		}
		logger.InfoContext(ctx, "ended an execution of a lost worker")
	}
}

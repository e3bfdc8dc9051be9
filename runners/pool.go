package runners

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// Pool runs handlers in processes that it reuses: each serves one version of one function of one account, one invocation at
// a time. The one that was used last is used first, so that the others can be paused and, in the end, ended. Interpreters
// without code wait for functions that no process serves yet.
//
// Where the driver cannot find what a handler leaves running (sandbox.LevelNone), each process serves one invocation.
type Pool struct {
	config   PoolConfig
	launcher *launcher
	isolates bool
	reuse    bool
	freezes  bool

	mu        sync.Mutex
	workers   map[*worker]struct{}  // all whose process may live
	idle      map[workerKey]*worker // the last used one, which names the one before
	stocks    map[shape]*stock
	stocking  bool          // somebody is starting stems
	memory    int64         // bytes of all workers
	freed     chan struct{} // closed, and made anew, when a worker is gone; nil when nobody waits for it
	stop      chan struct{} // closed with closed
	closed    bool
	ending    sync.WaitGroup // workers, and who starts stems
	close     func() error
	coldCalls int64
	reaped    int64
}

// workerKey is what a worker serves.
type workerKey struct {
	accountID  uuid.UUID
	functionID uuid.UUID
	version    int
	shape      shape
}

type workerState int

const (
	workerBusy workerState = iota // or being started
	workerIdle
	workerStem // waits for a function
	workerGone
)

// NewPool prepares a folder for the workers under the system's temporary folder, and starts the first stems in the
// background. Close must be called.
func NewPool(config PoolConfig) (*Pool, error) { return newPool(config.withDefaults(), false) }

func newPool(config PoolConfig, alwaysReuse bool) (*Pool, error) {
	workspaces, err := newWorkspaces()
	if err != nil {
		return nil, fmt.Errorf("prepare the folder that functions run in: %w", err)
	}
	enforced := config.Driver.Enforcement()
	p := &Pool{
		config:   config,
		launcher: &launcher{driver: config.Driver, workspaces: workspaces, limits: config.Limits},
		isolates: enforced.Level != sandbox.LevelNone,
		reuse:    alwaysReuse || enforced.Level != sandbox.LevelNone,
		freezes:  enforced.Freeze,
		workers:  map[*worker]struct{}{}, idle: map[workerKey]*worker{}, stocks: map[shape]*stock{}, stop: make(chan struct{}),
	}
	p.close = sync.OnceValue(p.end)
	p.stockDefaults()
	return p, nil
}

// mostTries bounds to how many processes an invocation is given.
const mostTries = 5

// Run implements Runner. An invocation whose process is gone before it took anything of it is given to another process; none
// is ever run again after its handler may have begun.
func (p *Pool) Run(ctx context.Context, inv Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
	key, err := p.keyOf(inv.Function)
	if err != nil {
		return p.refusal(ctx, inv, err)
	}
	for tries := 1; ; tries++ {
		w, err := p.acquire(ctx, key, inv.Function)
		if err != nil {
			return p.refusal(ctx, inv, err)
		}
		o := w.invoke(ctx, inv, emit)
		p.release(w, o)
		if !o.untouched || tries == mostTries {
			return o.verdict.event(o.measures)
		}
	}
}

func (p *Pool) keyOf(f domain.Function) (workerKey, error) {
	interpreter, err := p.config.Runtimes.lookup(f.Runtime)
	return workerKey{f.AccountID, f.ID, f.Version, shape{interpreter, f.MemoryMB, p.egress(f.Network)}}, err
}

func (p *Pool) egress(network domain.Network) bool {
	return network == domain.NetworkEgress || network == "" && p.config.Egress
}

// refusal tells why a function was not run.
func (p *Pool) refusal(ctx context.Context, inv Invocation, err error) domain.Event {
	var known *domain.Error
	switch {
	case errors.As(err, &known):
		return failed(domain.ErrorRuntimeUnavailable, known.Error()).event(measures{})
	case ctx.Err() != nil, errors.Is(err, errPoolClosed):
		return stoppedVerdict.event(measures{})
	}
	p.config.Logger.ErrorContext(ctx, "a function could not be run", "execution", inv.ExecutionID, "function", inv.Function.ID, "error", err)
	return failed(domain.ErrorInternal, "VoltRun could not start the function. Run it again; if that does not help, tell the operator.").event(measures{})
}

var errPoolClosed = errors.New("the pool is closed")

// acquire returns a worker for one invocation: an idle one, a stem, or a new one.
func (p *Pool) acquire(ctx context.Context, key workerKey, f domain.Function) (*worker, error) {
	for {
		w, freed, err := p.take(key, f.Runtime)
		switch {
		case err != nil:
			return nil, err
		case w == nil:
			if err := p.awaitFreed(ctx, freed); err != nil {
				return nil, err
			}
		case w.used:
			if w.fit() {
				return w, nil
			}
			p.drop(w)
		default:
			return w, p.prepare(ctx, w, f)
		}
	}
}

func (p *Pool) awaitFreed(ctx context.Context, freed <-chan struct{}) error {
	select {
	case <-freed:
		return nil
	case <-p.stop:
		return errPoolClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take makes a worker busy. One that is not used yet may have no process yet. When there is no room for another process,
// take returns what is closed when there may be.
func (p *Pool) take(key workerKey, runtime string) (*worker, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errPoolClosed
	}
	w := p.popIdle(key)
	if w == nil {
		w = p.popStem(key.shape, runtime)
	}
	if w == nil && !p.makeRoom() {
		if p.freed == nil {
			p.freed = make(chan struct{})
		}
		return nil, p.freed, nil
	}
	if w == nil {
		w = p.newWorker(key.shape)
	}
	if !w.used {
		p.coldCalls++
	}
	w.key, w.state, w.began = key, workerBusy, time.Now()
	return w, nil, nil
}

// newWorker is called with p.mu locked. The worker must be released, dropped or stocked.
func (p *Pool) newWorker(s shape) *worker {
	w := &worker{shape: s}
	p.account(w, startMemory)
	p.workers[w] = struct{}{}
	p.ending.Add(1)
	return w
}

// prepare gives a worker its process, if it has none yet, and its function. After an error the worker is gone.
func (p *Pool) prepare(ctx context.Context, w *worker, f domain.Function) error {
	err := p.launch(ctx, w, f.Runtime)
	if err == nil {
		err = w.assign(f)
	}
	if err != nil {
		p.drop(w)
	}
	return err
}

func (p *Pool) launch(ctx context.Context, w *worker, runtime string, shimArguments ...string) error {
	if w.instance != nil {
		return nil
	}
	if _, err := p.config.Runtimes.Resolve(runtime); err != nil {
		return err
	}
	if w.shape.egress && p.isolates && p.config.Driver.Enforcement().Network["egress"] == sandbox.Not {
		return domain.Errorf(domain.Unavailable, "This server cannot let a function reach the internet and nothing else. "+
			"Set the function's network to %q, or tell the operator.", domain.NetworkNone)
	}
	if err := p.launcher.start(ctx, w, func() { p.died(w) }, shimArguments...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w.launched = true
	if p.closed {
		return errPoolClosed
	}
	return nil
}

// release takes a worker back after an invocation.
func (p *Pool) release(w *worker, o outcome) {
	if o.reusable {
		left, err := w.instance.Processes()
		o.reusable = p.reuse && err == nil && left == 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w.used = true
	if !o.reusable || w.retired || p.closed {
		p.discard(w)
		return
	}
	p.account(w, o.memory)
	p.pushIdle(w)
	p.reapOverBudget()
	p.announceFreed()
}

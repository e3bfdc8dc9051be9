package projections

import (
	"context"
	"sync"

	"github.com/voltrun/voltrun/domain"
)

// Rebuilds are the rebuilds that a server runs in the background, at most one of each projection at a time.
type Rebuilds struct {
	rebuilder *Rebuilder
	live      *Live

	stopping context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
	mu       sync.Mutex
	runs     map[string]*rebuildRun // the last one of each projection since the start
}

type rebuildRun struct {
	progress Progress
	cancel   context.CancelFunc
	over     chan struct{} // closed at the end
}

// NewRebuilds makes the background rebuilds of a server. A projection of live that is paused goes on when its tables were
// rebuilt. Stop must be called before the database is closed.
func NewRebuilds(rebuilder *Rebuilder, live *Live) *Rebuilds {
	r := &Rebuilds{rebuilder: rebuilder, live: live, runs: map[string]*rebuildRun{}}
	r.stopping, r.stop = context.WithCancel(context.Background())
	return r
}

// Start begins to rebuild a projection and returns at once. The error is a domain.NotFound when there is no such
// projection, and a domain.Conflict while it is being rebuilt.
func (r *Rebuilds) Start(name string) (Progress, error) {
	if _, err := r.rebuilder.find(name); err != nil {
		return Progress{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.runs[name]; last != nil && !last.progress.Ended() {
		return Progress{}, domain.Errorf(domain.Conflict, "The read model %q is being rebuilt already.", name)
	}
	ctx, cancel := context.WithCancel(r.stopping)
	run := &rebuildRun{progress: startProgress(name), cancel: cancel, over: make(chan struct{})}
	r.runs[name] = run
	r.running.Go(func() { r.run(ctx, name, run) })
	return run.progress, nil
}

func (r *Rebuilds) run(ctx context.Context, name string, run *rebuildRun) {
	defer close(run.over)
	defer run.cancel()
	say := r.rebuilder.say()
	err := r.rebuilder.Rebuild(ctx, name, func(p Progress) {
		say(p)
		r.mu.Lock()
		defer r.mu.Unlock()
		run.progress = p
	})
	if err == nil {
		r.live.Resume(name)
	}
}

// Progress tells how far the last rebuild of a projection since the start is. The error is a domain.NotFound when there
// was none.
func (r *Rebuilds) Progress(name string) (Progress, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.runs[name]
	if run == nil {
		return Progress{}, domain.Errorf(domain.NotFound, "The read model %q was not rebuilt since the server was started.", name)
	}
	return run.progress, nil
}

// Cancel ends the rebuild of a projection and returns when it is over; ctx bounds the wait. The error is a
// domain.NotFound when there was none, and a domain.Conflict when it was over before.
func (r *Rebuilds) Cancel(ctx context.Context, name string) (Progress, error) {
	progress, err := r.Progress(name)
	if err != nil {
		return Progress{}, err
	}
	if progress.Ended() {
		return Progress{}, domain.Errorf(domain.Conflict, "The rebuild of %q is over.", name)
	}
	r.mu.Lock()
	run := r.runs[name]
	r.mu.Unlock()
	run.cancel()
	select {
	case <-run.over:
		return r.Progress(name)
	case <-ctx.Done():
		return Progress{}, ctx.Err()
	}
}

// Stop cancels every rebuild and returns when they are over. Nothing can be started any more.
func (r *Rebuilds) Stop() {
	r.stop()
	r.running.Wait()
}

package projections

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// retryErasure is how long the eraser waits after a failure; doubled each time, up to lastRetryErasure.
const (
	retryErasure     = time.Second
	lastRetryErasure = 10 * time.Minute
)

// Eraser carries erasures through to the end, also those of a process that ended in the middle of one. What an account held
// is gone for everybody as soon as its key is destroyed and its rows are deleted, both within moments. Its traces go later:
// a deleted row stays in its page, where somebody could find it who has the disk. So the read models are rebuilt and the
// vault is rewritten, and the files that held them are dropped.
//
// Every server has an eraser. They may do the same at once without harm; the traces are removed by one at a time.
type Eraser struct {
	store     *postgres.Store
	keys      *eventstore.KeyRing
	rebuilder *Rebuilder
	logger    *slog.Logger
	told      chan struct{} // holds a token when a key was destroyed
	destroyed chan Position // up to here the keys are destroyed; holds the newest one until it is taken

	mu    sync.Mutex
	state ErasureState // when there are traces to remove
	cause error        // of ErasureFailed

	stopping context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// NewEraser makes the eraser of a server. Stop must be called before the database is closed.
func NewEraser(store *postgres.Store, keys *eventstore.KeyRing, rebuilder *Rebuilder, logger *slog.Logger) *Eraser {
	e := &Eraser{
		store: store, keys: keys, rebuilder: rebuilder, logger: logger,
		told: make(chan struct{}, 1), destroyed: make(chan Position, 1), state: ErasureSettling,
	}
	e.stopping, e.stop = context.WithCancel(context.Background())
	store.OnErase(func(uuid.UUID) {
		select {
		case e.told <- struct{}{}:
		default:
		}
	})
	return e
}

// Start sets the eraser to work, beginning with what was left unfinished. The projections have to follow the log by then.
func (e *Eraser) Start() {
	e.running.Go(func() { e.destroyKeys(e.stopping) })
	e.running.Go(func() { e.removeTraces(e.stopping) })
}

// Stop returns when the eraser does nothing any more. What it has begun is done again after the next start.
func (e *Eraser) Stop() {
	e.stop()
	e.running.Wait()
}

// destroyKeys sees to it that no erased account has a key, whatever became of the process that erased it.
func (e *Eraser) destroyKeys(ctx context.Context) {
	wake, cancel := e.store.Subscribe()
	defer cancel()
	position, wait := notKnown, retryErasure
	for ctx.Err() == nil {
		next, err := e.destroyKeysAfter(ctx, position)
		switch {
		case err != nil && ctx.Err() == nil:
			e.logger.WarnContext(ctx, "erased accounts may still have their keys; trying again", "in", wait, "error", err)
			_ = sleep(ctx, wait)
			wait = min(2*wait, lastRetryErasure)
		case position == notKnown:
			position = next
		case next > position:
			position, wait = next, retryErasure
			e.tellDestroyed(position)
		default:
			e.awaitNews(ctx, wake)
		}
	}
}

// lookForErasures is how often a log that grows is searched for erasures that nobody tells of, because their process ended
// before it could destroy the key.
const lookForErasures = 15 * time.Second

// awaitNews waits until there may be an erasure. The read model shows it a moment later.
func (e *Eraser) awaitNews(ctx context.Context, wake <-chan struct{}) {
	select {
	case <-e.told:
	case <-time.After(lookForErasures):
		select {
		case <-e.told:
		case <-wake:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	_ = sleep(ctx, time.Second)
}

// notKnown stands for the position up to which nothing is left, before it was read.
const notKnown Position = -1

// destroyKeysAfter returns the position of the last erasure that it has looked at.
func (e *Eraser) destroyKeysAfter(ctx context.Context, position Position) (Position, error) {
	if position == notKnown {
		return e.checkpoint(ctx)
	}
	list, err := Accounts{e.store.Pool()}.ErasedAfter(ctx, position)
	if err != nil {
		return 0, err
	}
	for _, account := range list {
		gone, err := e.store.Erased(ctx, account.ID)
		if err == nil && !gone {
			err = e.keys.Erase(ctx, account.ID)
		}
		if err != nil {
			return 0, err
		}
		position = account.Position
	}
	return position, nil
}

// tellDestroyed replaces what removeTraces has not taken yet.
func (e *Eraser) tellDestroyed(position Position) {
	select {
	case <-e.destroyed:
	default:
	}
	e.destroyed <- position
}

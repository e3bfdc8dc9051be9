package projections

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Rebuilder builds read models anew beside those that serve, from position 1 and by the same fold, and puts them in their
// place in one transaction. Whatever ends a rebuild before that, the tables that serve stay as they were.
type Rebuilder struct {
	pool     *pgxpool.Pool
	pipeline pipeline
	list     []*Projection
	logger   *slog.Logger
}

// NewRebuilder makes a rebuilder of these projections. It takes two of the database's connections for each rebuild, of
// which the pool gives one.
func NewRebuilder(pool *pgxpool.Pool, codec *eventstore.Codec, list []*Projection, logger *slog.Logger) *Rebuilder {
	return &Rebuilder{pool: pool, pipeline: pipeline{pool, codec, pageEvents}, list: list, logger: logger}
}

// Names lists the projections in the order in which they were given.
func (r *Rebuilder) Names() []string {
	names := make([]string, len(r.list))
	for i, p := range r.list {
		names[i] = p.Name
	}
	return names
}

// Rebuild builds a projection's tables anew and swaps them in. report, which may be nil, hears of the progress, one call
// at a time and the last one when the rebuild is over. The error is a domain.NotFound when there is no such projection,
// ErrRebuilding while somebody else rebuilds it, and an error that names the event when one cannot be folded.
func (r *Rebuilder) Rebuild(ctx context.Context, name string, report func(Progress)) error {
	p, err := r.find(name)
	if err != nil {
		return err
	}
	return r.work(ctx, p, report, func(w *work) error {
		if err := w.requireVersion(ctx); err != nil {
			return err
		}
		w.guard = w.requireVersion
		return w.rebuild(ctx)
	})
}

func (r *Rebuilder) find(name string) (*Projection, error) {
	if p := find(r.list, name); p != nil {
		return p, nil
	}
	return nil, domain.Errorf(domain.NotFound, "There is no projection %q.", name)
}

// work is a rebuild or a verification under way.
type work struct {
	*generation
	*tracker
	pipeline *pipeline
}

// work opens a generation, lets use work on it, and drops what is left.
func (r *Rebuilder) work(ctx context.Context, p *Projection, report func(Progress), use func(*work) error) (err error) {
	t := track(p.Name, report)
	defer func() {
		switch {
		case err == nil:
			t.end(RebuildDone, nil)
		case ctx.Err() != nil:
			err = ctx.Err()
			t.end(RebuildCancelled, nil)
		default:
			t.end(RebuildFailed, err)
		}
	}()
	g, err := newGeneration(ctx, r.pool.Config().ConnConfig, p)
	if err != nil {
		return err
	}
	defer func() {
		if discardErr := g.discard(ctx); discardErr != nil {
			r.logger.Warn("the next rebuild or start will drop what this one has left", "projection", p.Name, "error", discardErr)
		}
	}()
	return use(&work{g, t, &r.pipeline})
}

// rebuild fills the generation, indexes it and swaps it in.
func (w *work) rebuild(ctx context.Context) error {
	if err := w.load(ctx, w.head); err != nil {
		return err
	}
	w.enter(RebuildSwapping)
	for timeout := firstLockTimeout; ; timeout = min(2*timeout, lastLockTimeout) {
		if err := w.catchUp(ctx, w.head); err != nil {
			return err
		}
		err := w.swap(ctx, timeout, w.fill)
		if err == nil || !mayRetry(err) {
			return err
		}
		// Those who queued up behind the locks go first, and the next ones are not held up more than now and then.
		if err := sleep(ctx, 5*timeout); err != nil {
			return err
		}
	}
}

// load fills the generation up to where goal says, and indexes it.
func (w *work) load(ctx context.Context, goal func(context.Context) (Position, error)) error {
	upto, err := goal(ctx)
	if err != nil {
		return err
	}
	if err := w.fill(ctx, upto); err != nil {
		return err
	}
	w.enter(RebuildIndexing)
	return w.index(ctx)
}

func (w *work) fill(ctx context.Context, upto Position) error {
	w.aim(upto)
	return w.pipeline.fill(ctx, w.generation, upto, w.passed)
}

// catchUpRounds bounds how often what was appended meanwhile is fetched before the swap. Each round is shorter than the
// one before as long as events are folded faster than they are appended.
const catchUpRounds = 20

// catchUp fetches what was appended while the generation was filled, until little is missing.
func (w *work) catchUp(ctx context.Context, goal func(context.Context) (Position, error)) error {
	for range catchUpRounds {
		upto, err := goal(ctx)
		if err != nil {
			return err
		}
		missing := upto - w.position
		if err := w.fill(ctx, upto); err != nil {
			return err
		}
		if missing < mostBehind/10 {
			break
		}
	}
	return nil
}

package projections

import (
	"context"
	"fmt"
	"runtime"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

const (
	// pageEvents is how many positions a rebuild reads with one query and writes at once, and pageBytes how much data it
	// writes at once at most, give or take a chunk. Two pages and some chunks are in memory at a time.
	pageEvents = 20_000
	pageBytes  = 16 << 20

	// A chunk is what is decoded at once.
	chunkEvents = 500
	chunkBytes  = 2 << 20
)

// pipeline builds generations: one connection reads the log, goroutines decode, one folds, and the generation's
// connection writes, each a little ahead of the next.
type pipeline struct {
	pool       *pgxpool.Pool
	codec      *eventstore.Codec
	pageEvents Position
}

// chunk is a run of events that are decoded together.
type chunk struct {
	records []Recorded
	bytes   int
	last    Position // everything up to here was read; 0 when the page goes on
	decoded chan error
}

// page is what is written at once.
type page struct {
	changes *Changes
	sweep   []Statement
	last    Position // the generation shows everything up to here when it is written; 0: not yet
}

// fill folds the log into the generation until that shows everything up to a position. passed hears how far it is.
func (pl *pipeline) fill(ctx context.Context, g *generation, upto Position, passed func(Position)) error {
	if g.position >= upto {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	chunks := make(chan *chunk, 2*runtime.GOMAXPROCS(0))
	pages := make(chan page, 1)
	group.Go(func() error {
		defer close(chunks)
		return pl.read(ctx, g.projection, g.position, upto, chunks)
	})
	group.Go(func() error {
		defer close(pages)
		return foldChunks(ctx, g, chunks, pages)
	})
	group.Go(func() error {
		for pg := range pages {
			if err := g.projection.writeBulk(ctx, g.conn, pg.changes, pg.sweep); err != nil {
				return err
			}
			if pg.last > 0 {
				g.position = pg.last
				passed(pg.last)
			}
		}
		return nil
	})
	return group.Wait()
}

// read reads the events that the projection wants, range by range, and has them decoded while it reads on. The chunks
// come in order; whoever takes one waits until it is decoded.
func (pl *pipeline) read(ctx context.Context, p *Projection, after, upto Position, chunks chan<- *chunk) error {
	var decoders errgroup.Group
	decoders.SetLimit(runtime.GOMAXPROCS(0))
	send := func(c *chunk) error {
		select {
		case chunks <- c:
			decoders.Go(func() error {
				c.decoded <- pl.decode(ctx, c)
				return nil
			})
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var err error
	for from := after + 1; from <= upto && err == nil; from += pl.pageEvents {
		err = pl.readRange(ctx, p.Types, from, min(from+pl.pageEvents-1, upto), send)
	}
	_ = decoders.Wait()
	return err
}

// readRange reads the events of a range, after a look whether any event of the log is missing in it.
func (pl *pipeline) readRange(ctx context.Context, types []string, from, to Position, send func(*chunk) error) error {
	var batch pgx.Batch
	batch.Queue("select count(*) from events where position between $1 and $2", from, to)
	batch.Queue("select "+postgres.EventColumns+" from events where position between $1 and $2 and type = any($3) order by position", from, to, types)
	results := pl.pool.SendBatch(ctx, &batch)
	defer func() { _ = results.Close() }() // what it could say was said when the rows ended
	var count Position
	if err := results.QueryRow().Scan(&count); err != nil {
		return fmt.Errorf("read events %d to %d: %w", from, to, err)
	}
	if count != to-from+1 {
		return fmt.Errorf("of the events %d to %d, %d are missing in the log", from, to, to-from+1-count)
	}
	rows, _ := results.Query() // whatever is wrong is told by rows.Err
	defer rows.Close()
	last, err := sendChunks(rows, send)
	if err != nil {
		return fmt.Errorf("read events %d to %d: %w", from, to, err)
	}
	last.last = to
	return send(last)
}

// sendChunks sends all events but those of the last chunk, which it returns.
func sendChunks(rows pgx.Rows, send func(*chunk) error) (*chunk, error) {
	c := newChunk()
	for rows.Next() {
		event, err := postgres.ParseEvent(rows.RawValues())
		if err != nil {
			return nil, err
		}
		c.records = append(c.records, Recorded{Event: event})
		if c.bytes += len(event.Data); len(c.records) < chunkEvents && c.bytes < chunkBytes {
			continue
		}
		if err := send(c); err != nil {
			return nil, err
		}
		c = newChunk()
	}
	return c, rows.Err()
}

func newChunk() *chunk {
	return &chunk{records: make([]Recorded, 0, chunkEvents), decoded: make(chan error, 1)}
}

func (pl *pipeline) decode(ctx context.Context, c *chunk) error {
	for i := range c.records {
		var err error
		if c.records[i], err = decode(ctx, pl.codec, c.records[i].Event); err != nil {
			return err
		}
	}
	return nil
}

// foldChunks folds decoded chunks into pages.
func foldChunks(ctx context.Context, g *generation, chunks <-chan *chunk, pages chan<- page) error {
	changes, bytes := newChanges(), 0
	flush := func(sweep []Statement, last Position) error {
		select {
		case pages <- page{changes, sweep, last}:
			changes, bytes = newChanges(), 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for c := range chunks {
		if err := <-c.decoded; err != nil {
			return err
		}
		for _, r := range c.records {
			if sweep := g.sweep(r); len(sweep) > 0 {
				if err := flush(sweep, 0); err != nil {
					return err
				}
			}
			if err := g.projection.foldSafely(r, changes); err != nil {
				return err
			}
		}
		if bytes += c.bytes; bytes >= pageBytes || c.last > 0 {
			if err := flush(nil, c.last); err != nil {
				return err
			}
		}
	}
	return nil
}

// foldSafely folds an event and turns a panic into an error, as the router does for live pages.
func (p *Projection) foldSafely(r Recorded, changes *Changes) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("event %d (%s): panic: %v", r.Position, r.Type, v)
		}
	}()
	p.Fold(r, changes)
	return nil
}

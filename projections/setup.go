package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// setupLock is the advisory lock under which servers that start at once take turns ("voltrun\2").
const setupLock = 0x766f6c7472756e02

// Setup makes the read models this version's before they are followed, and drops what rebuilds of dead processes have
// left. A log without events gets empty tables. Tables that another version has built are taken over when this one can
// keep them: they serve from the first moment, and their projections are returned to be rebuilt in the background. When
// they lack a column, or there are none, the rebuild is made here and now, and the old ones stay as they are until it is
// done. A projection that cannot be rebuilt is left to its old version, and pauses here; the others go on.
func (r *Rebuilder) Setup(ctx context.Context) (due []string, err error) {
	if err := r.dropLeftovers(ctx); err != nil {
		return nil, fmt.Errorf("set up the projections: %w", err)
	}
	schema, err := logSchema(ctx, r.pool)
	if err != nil {
		return nil, fmt.Errorf("set up the projections: %w", err)
	}
	var first []*Projection
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(setupLock)); err != nil {
			return err
		}
		for _, p := range r.list {
			need, err := p.setUp(ctx, tx, schema)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			switch need {
			case rebuildSoon:
				due = append(due, p.Name)
			case rebuildFirst:
				first = append(first, p)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("set up the projections: %w", err)
	}
	for _, p := range first {
		if err := r.rebuildFirst(ctx, p); err != nil {
			return nil, err
		}
	}
	return due, nil
}

// need says whether a projection has to be rebuilt.
type need int

const (
	noRebuild    need = iota
	rebuildSoon       // its tables serve meanwhile
	rebuildFirst      // before anybody can read them
)

func (p *Projection) setUp(ctx context.Context, tx pgx.Tx, schema string) (need, error) {
	var version, built int
	err := tx.QueryRow(ctx, "select version, built from projections where name = $1", p.Name).Scan(&version, &built)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p.setUpNew(ctx, tx, schema)
	case err != nil:
		return noRebuild, err
	case version == p.Version && built == p.Version:
		return noRebuild, nil
	case version == p.Version:
		return rebuildSoon, nil
	}
	fits, err := p.fits(ctx, tx)
	if err != nil || !fits {
		return rebuildFirst, err
	}
	return rebuildSoon, p.takeOver(ctx, tx, schema)
}

// setUpNew makes the tables of a projection that has none.
func (p *Projection) setUpNew(ctx context.Context, tx pgx.Tx, schema string) (need, error) {
	var events bool
	if err := tx.QueryRow(ctx, "select position > 0 from head").Scan(&events); err != nil || events {
		return rebuildFirst, err
	}
	for _, statement := range []string{p.DDL, p.Indexes} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return noRebuild, err
		}
	}
	return noRebuild, p.register(ctx, tx, schema)
}

// fits tells whether this version can read and write the tables that stand there: they have all of its columns, and no
// other column that wants a value.
func (p *Projection) fits(ctx context.Context, tx pgx.Tx) (fits bool, err error) {
	var tables, columns, types []string
	for _, t := range p.Tables {
		for _, c := range t.Columns {
			tables, columns, types = append(tables, t.Name), append(columns, c.Name), append(types, c.Type)
		}
	}
	err = tx.QueryRow(ctx, `with wanted as (
			select to_regclass(t) as relation, c as name, y::regtype::oid as type
			from unnest($1::text[], $2::text[], $3::text[]) as w (t, c, y)
		), standing as (
			select attrelid as relation, attname as name, atttypid as type, attnotnull and not atthasdef as wants_value from pg_attribute
			where attrelid in (select relation from wanted) and attnum > 0 and not attisdropped
		)
		select not exists (select from wanted w where not exists (
			select from standing s where s.relation = w.relation and s.name = w.name and s.type = w.type
		)) and not exists (select from standing s where wants_value and not exists (
			select from wanted w where s.relation = w.relation and s.name = w.name))`, tables, columns, types).Scan(&fits)
	return fits, err
}

// takeOver makes this version the one that writes the tables. The lock waits until no page of another version is in
// flight; the next one finds the tables no longer its own, and its projection pauses.
func (p *Projection) takeOver(ctx context.Context, tx pgx.Tx, schema string) error {
	if err := lockCheckpoint(ctx, tx, schema, p); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "update projections set version = $2, built = 0 where name = $1", p.Name, p.Version)
	return err
}

// sayEvery is how often the log of a server says how far a rebuild is.
const sayEvery = 5 * time.Second

// rebuildFirst rebuilds a projection that cannot serve before. When another server that starts does so, it waits.
func (r *Rebuilder) rebuildFirst(ctx context.Context, p *Projection) error {
	r.logger.Info("a read model is built from the beginning of the log before the server opens its doors", "projection", p.Name)
	for {
		err := r.work(ctx, p, r.say(), func(w *work) error {
			if w.requireVersion(ctx) == nil {
				return nil // somebody was faster
			}
			return w.rebuild(ctx)
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrRebuilding):
			continue
		case err != nil:
			r.logger.Error("a read model cannot be built; the server starts without it", "projection", p.Name, "error", err)
		}
		return nil
	}
}

// say returns a report that writes to the log of the server now and then.
func (r *Rebuilder) say() func(Progress) {
	said := time.Now()
	return func(p Progress) {
		switch {
		case p.Ended() && p.State == RebuildDone:
			r.logger.Info("a read model was rebuilt", "projection", p.Projection, "events", p.Done,
				"took", p.EndedAt.Sub(p.StartedAt).Round(time.Millisecond))
		case p.Ended():
			r.logger.Warn("a read model was not rebuilt; the old tables serve on", "projection", p.Projection, "state", p.State, "error", p.Error)
		case time.Since(said) > sayEvery:
			said = time.Now()
			r.logger.Info("a read model is being rebuilt", "projection", p.Projection, "state", p.State, "events_done", p.Done,
				"events_total", p.Total, "events_per_second", int(p.Rate), "seconds_left", int(p.Left))
		}
	}
}

// dropLeftovers drops the schemas of rebuilds whose processes are gone. Those that somebody works on are locked.
func (r *Rebuilder) dropLeftovers(ctx context.Context) error {
	rows, err := r.pool.Query(ctx, "select nspname from pg_namespace where obj_description(oid, 'pg_namespace') = $1", schemaMark)
	if err != nil {
		return err
	}
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, schema := range schemas {
		if err := r.dropLeftover(ctx, schema); err != nil {
			return fmt.Errorf("drop %s, which a rebuild has left: %w", schema, err)
		}
	}
	return nil
}

func (r *Rebuilder) dropLeftover(ctx context.Context, schema string) error {
	conn, err := pgx.ConnectConfig(ctx, r.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	projection := strings.TrimPrefix(strings.TrimPrefix(schema, rebuildPrefix), retiredPrefix)
	if err := lockRebuild(ctx, conn, projection, 0); err != nil {
		if errors.Is(err, ErrRebuilding) {
			return nil
		}
		return err
	}
	return dropSchemas(ctx, conn, schema)
}

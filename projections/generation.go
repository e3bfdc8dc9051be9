package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore/feed"
)

const (
	rebuildPrefix = "rebuild_" // of the schema that holds a generation while it is built
	retiredPrefix = "retired_" // of the schema that holds the tables which a generation has replaced

	// schemaMark is the comment of our schemas: a schema without it is somebody else's.
	schemaMark = "Made by VoltRun for the rebuild of a read model; dropped when that is over."

	// lockPatience is how long a rebuild waits for another one's lock: a process that was killed may be on its way out.
	lockPatience = 3 * time.Second
)

// ErrRebuilding says that a projection is being rebuilt or verified already, by this process or another.
var ErrRebuilding = errors.New("it is being rebuilt or verified already")

// generation is a set of a projection's tables that is built from position 1, in a schema of its own. Nobody reads it
// before the swap, and it can be thrown away at any time.
type generation struct {
	projection *Projection
	conn       *pgx.Conn // finds names in the generation's schema only, and holds the lock on the projection's rebuild
	live       string    // the schema of the log and of the tables that serve, quoted
	position   Position  // what the tables show
	readable   accounts  // those of which the log has told something so far

	guard func(context.Context) error // asked last whether the swap may happen; nil: it may
}

// newGeneration makes the tables, without their indexes. It fails with ErrRebuilding when there is a generation of that
// projection which somebody works on. What dead processes have left of others is dropped.
func newGeneration(ctx context.Context, config *pgx.ConnConfig, p *Projection) (*generation, error) {
	g, err := connectGeneration(ctx, config, p)
	if err != nil {
		return nil, err
	}
	if err := g.create(ctx); err != nil {
		_ = g.conn.Close(ctx)
		return nil, fmt.Errorf("make new tables: %w", err)
	}
	return g, nil
}

func connectGeneration(ctx context.Context, config *pgx.ConnConfig, p *Projection) (*generation, error) {
	config = config.Copy()
	config.RuntimeParams["application_name"] = "voltrun rebuild " + p.Name
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	g := &generation{projection: p, conn: conn, readable: accounts{}}
	if err = lockRebuild(ctx, conn, p.Name, lockPatience); err == nil {
		g.live, err = logSchema(ctx, conn)
	}
	if err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return g, nil
}

// rowQuerier is a pgx pool, connection or transaction.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// logSchema is the schema, quoted, of the log and of the tables that serve.
func logSchema(ctx context.Context, db rowQuerier) (schema string, err error) {
	err = db.QueryRow(ctx, "select relnamespace::regnamespace::text from pg_class where oid = 'checkpoints'::regclass").Scan(&schema)
	return schema, err
}

// create starts from nothing. What is lost in a crash is built again, so nothing is flushed before the swap.
func (g *generation) create(ctx context.Context) error {
	if err := dropSchemas(ctx, g.conn, g.schema(), g.retired()); err != nil {
		return err
	}
	for _, statement := range []string{
		createSchema(g.schema()), "set search_path to " + quote(g.schema()), "set synchronous_commit to off",
		"set maintenance_work_mem to '256MB'",
		g.projection.DDL,
	} {
		if _, err := g.conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	// So that a long statement does not outlive a process that is killed. Not every system can tell that it is gone.
	_, _ = g.conn.Exec(ctx, "set client_connection_check_interval to '500ms'")
	return nil
}

func (g *generation) schema() string { return rebuildPrefix + g.projection.Name }

func (g *generation) retired() string { return retiredPrefix + g.projection.Name }

// index completes the tables once most of their rows are there, and lets the planner know them.
func (g *generation) index(ctx context.Context) error {
	for _, statement := range []string{g.projection.Indexes, "analyze " + strings.Join(g.projection.tableNames(), ", ")} {
		if _, err := g.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("index the new tables: %w", err)
		}
	}
	return nil
}

// checkpoint is how far the tables that serve have followed the log.
func (g *generation) checkpoint(ctx context.Context) (Position, error) {
	return g.checkpointIn(ctx, g.conn)
}

// checkpointIn is checkpoint as another transaction sees it.
func (g *generation) checkpointIn(ctx context.Context, db rowQuerier) (position Position, err error) {
	err = db.QueryRow(ctx, "select coalesce(max(position), 0) from "+g.live+".checkpoints where consumer = $1 and topic = $2",
		g.projection.ConsumerName(), feed.All).Scan(&position)
	return position, err
}

// head is the newest position of the log.
func (g *generation) head(ctx context.Context) (position Position, err error) {
	err = g.conn.QueryRow(ctx, "select position from "+g.live+".head").Scan(&position)
	return position, err
}

// requireVersion makes sure that the tables which serve are this version's to replace.
func (g *generation) requireVersion(ctx context.Context) error {
	return g.projection.requireVersion(ctx, g.conn, g.live+".projections")
}

// discardWithin bounds how long it takes to drop what a rebuild leaves.
const discardWithin = time.Minute

// discard drops the generation, and after a swap what it has replaced. The connection may be broken, so that another one
// does it. When that fails, the next rebuild or start does.
func (g *generation) discard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardWithin)
	defer cancel()
	_ = g.conn.Close(ctx)
	conn, err := pgx.ConnectConfig(ctx, g.conn.Config())
	if err != nil {
		return fmt.Errorf("drop what the rebuild of %s has left: %w", g.projection.Name, err)
	}
	defer conn.Close(ctx)
	err = lockRebuild(ctx, conn, g.projection.Name, discardWithin)
	if errors.Is(err, ErrRebuilding) {
		return nil // the next rebuild runs already, and has dropped it
	}
	if err == nil {
		err = dropSchemas(ctx, conn, g.schema(), g.retired())
	}
	if err != nil {
		return fmt.Errorf("drop what the rebuild of %s has left: %w", g.projection.Name, err)
	}
	return nil
}

// lockRebuild makes the connection the only one that works on generations of a projection, until it is closed.
func lockRebuild(ctx context.Context, conn *pgx.Conn, projection string, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		var locked bool
		err := conn.QueryRow(ctx, "select pg_try_advisory_lock(hashtextextended($1, 0))", "voltrun rebuild "+projection).Scan(&locked)
		switch {
		case err != nil || locked:
			return err
		case time.Now().After(deadline):
			return ErrRebuilding
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// createSchema makes a schema with our mark, both or nothing.
func createSchema(name string) string {
	return fmt.Sprintf("create schema %[1]s; comment on schema %[1]s is '%[2]s'", quote(name), schemaMark)
}

// dropSchemas drops those of the schemas that exist and are ours, with all that is in them.
func dropSchemas(ctx context.Context, conn *pgx.Conn, names ...string) error {
	rows, err := conn.Query(ctx, "select nspname from pg_namespace where nspname = any($1) and obj_description(oid, 'pg_namespace') = $2",
		names, schemaMark)
	if err != nil {
		return err
	}
	ours, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range ours {
		if _, err := conn.Exec(ctx, "drop schema if exists "+quote(name)+" cascade"); err != nil {
			return err
		}
	}
	return nil
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }

// sleep waits for d, or answers ctx's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

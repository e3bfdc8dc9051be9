package projections

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/voltrun/voltrun/eventstore/feed"
)

// setupLock is the advisory lock under which servers that start at once take turns ("voltrun\2").
const setupLock = 0x766f6c7472756e02

// Setup makes the tables of projections that have none, and empties those that were built by another version: they
// follow the log from position 1 then. It returns the names of the projections that start anew.
func Setup(ctx context.Context, pool *pgxpool.Pool, list []*Projection) (anew []string, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(setupLock)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "create table if not exists projections (name text not null primary key, version integer not null)")
		if err != nil {
			return err
		}
		for _, p := range list {
			started, err := p.setUp(ctx, tx)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			if started {
				anew = append(anew, p.Name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("set up the projections: %w", err)
	}
	return anew, nil
}

func (p *Projection) setUp(ctx context.Context, tx pgx.Tx) (bool, error) {
	var built int
	err := tx.QueryRow(ctx, "select coalesce(max(version), 0) from projections where name = $1", p.Name).Scan(&built)
	if err != nil || built == p.Version {
		return false, err
	}
	names := make([]string, len(p.Tables))
	for i, t := range p.Tables {
		names[i] = t.Name
	}
	for _, statement := range []string{"drop table if exists " + strings.Join(names, ", "), p.DDL} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return false, err
		}
	}
	if _, err := tx.Exec(ctx, "delete from checkpoints where consumer = $1 and topic = $2", p.ConsumerName(), feed.All); err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, `insert into projections (name, version) values ($1, $2)
		on conflict (name) do update set version = excluded.version`, p.Name, p.Version)
	return true, err
}

package projections

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Verification compares a projection's tables, as they served at a position, with what the log says.
type Verification struct {
	Projection string
	Position   Position
	Tables     []TableVerification
}

// TableVerification compares one table.
type TableVerification struct {
	Table   string
	Live    Digest // of the rows that serve
	FromLog Digest // of the rows that a rebuild makes
}

// Equal tells whether the table is what the log says.
func (t TableVerification) Equal() bool { return t.Live == t.FromLog }

// Equal tells whether all tables are what the log says.
func (v Verification) Equal() bool {
	for _, t := range v.Tables {
		if !t.Equal() {
			return false
		}
	}
	return true
}

// Verify builds a projection's tables anew beside those that serve, up to where these are, compares them and drops the
// new ones. It changes nothing and holds nobody up. The errors are those of Rebuild; a difference is none.
func (r *Rebuilder) Verify(ctx context.Context, name string, report func(Progress)) (Verification, error) {
	p, err := r.find(name)
	if err != nil {
		return Verification{}, err
	}
	result := Verification{Projection: name}
	err = r.work(ctx, p, report, func(w *work) error {
		if err := w.requireVersion(ctx); err != nil {
			return err
		}
		// Never beyond the tables that serve, which may stand still: only their own past can be compared.
		if err := w.load(ctx, w.checkpoint); err != nil {
			return err
		}
		return w.compare(ctx, r, &result)
	})
	return result, err
}

// compare looks at the tables that serve through a snapshot, in which they and their checkpoint belong together, while
// other transactions move both on.
func (w *work) compare(ctx context.Context, r *Rebuilder, result *Verification) error {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead}
	err := pgx.BeginTxFunc(ctx, r.pool, snapshot, func(tx pgx.Tx) error {
		position, err := w.checkpointIn(ctx, tx)
		if err != nil {
			return err
		}
		if err := w.fill(ctx, position); err != nil {
			return err
		}
		w.enter(RebuildComparing)
		result.Position = position
		live, err := w.projection.digests(ctx, tx, w.live)
		if err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
			fromLog, err := w.projection.digests(ctx, tx, quote(w.schema()))
			for _, t := range w.projection.Tables {
				result.Tables = append(result.Tables, TableVerification{t.Name, live[t.Name], fromLog[t.Name]})
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("compare the tables: %w", err)
	}
	return nil
}

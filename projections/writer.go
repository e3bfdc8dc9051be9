package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/voltrun/voltrun/eventstore/feed"
)

// errOtherVersion pauses a projection whose tables a server of another version has taken over.
var errOtherVersion = errors.New("is of another version")

// writeLive sends changes, and then a sweep, in the transaction of a page: one round trip, and for each table at most one
// statement that deletes, one that inserts, and one for each set of columns that change together.
func (p *Projection) writeLive(ctx context.Context, tx feed.Tx, changes *Changes, sweep []Statement) error {
	var batch pgx.Batch
	for _, t := range p.Tables {
		if tc := changes.tables[t]; tc != nil {
			queueDeletes(&batch, t, tc)
			queueInserts(&batch, t, tc)
			queueUpdates(&batch, t, tc)
		}
	}
	queueSweep(&batch, sweep)
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("write the tables of %s: %w", p.Name, err)
	}
	return nil
}

// requireVersion fails when the tables are not this version's, or not any more; table is where versions are noted. In a
// transaction that holds the lock on the checkpoint they cannot change hands afterwards.
func (p *Projection) requireVersion(ctx context.Context, db rowQuerier, table string) error {
	var version int
	err := db.QueryRow(ctx, "select coalesce(max(version), 0) from "+table+" where name = $1", p.Name).Scan(&version)
	if err != nil {
		return fmt.Errorf("look which version keeps %s: %w", p.Name, err)
	}
	switch version {
	case p.Version:
		return nil
	case 0:
		return fmt.Errorf("the read model %s has no tables; they are made when a server starts", p.Name)
	default:
		return fmt.Errorf("the read model %s %w: version %d of its projection keeps it, and this VoltRun has version %d. "+
			"Either another server has taken it over, or it could not be rebuilt when this one was started", p.Name, errOtherVersion, version, p.Version)
	}
}

// writeBulk sends the changes of a rebuild, tens of thousands of rows at once, new ones by COPY, and then a sweep.
func (p *Projection) writeBulk(ctx context.Context, conn *pgx.Conn, changes *Changes, sweep []Statement) error {
	var deletes, updates pgx.Batch
	for _, t := range p.Tables {
		if tc := changes.tables[t]; tc != nil {
			queueDeletes(&deletes, t, tc)
			queueUpdates(&updates, t, tc)
		}
	}
	if err := conn.SendBatch(ctx, &deletes).Close(); err != nil {
		return fmt.Errorf("delete rows of %s: %w", p.Name, err)
	}
	for _, t := range p.Tables {
		if tc := changes.tables[t]; tc != nil {
			if err := copyInserts(ctx, conn, t, tc); err != nil {
				return fmt.Errorf("insert rows of %s: %w", p.Name, err)
			}
		}
	}
	queueSweep(&updates, sweep)
	if err := conn.SendBatch(ctx, &updates).Close(); err != nil {
		return fmt.Errorf("update rows of %s: %w", p.Name, err)
	}
	return nil
}

func copyInserts(ctx context.Context, conn *pgx.Conn, t *Table, tc *tableChanges) error {
	created := slices.DeleteFunc(slices.Clone(tc.order), func(ch *change) bool { return !ch.created })
	if len(created) == 0 {
		return nil
	}
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	_, err := conn.CopyFrom(ctx, pgx.Identifier{t.Name}, names, pgx.CopyFromSlice(len(created), func(i int) ([]any, error) {
		for place, v := range created[i].values {
			created[i].values[place] = native(v)
		}
		return created[i].values, nil
	}))
	return err
}

// native makes an id what pgx knows: as a foreign type, it takes longer than all the rest of its row.
func native(value any) any {
	if id, ok := value.(uuid.UUID); ok {
		return pgtype.UUID{Bytes: id, Valid: true}
	}
	return value
}

// queueDeletes makes at most one statement, which deletes rows by their keys.
func queueDeletes(batch *pgx.Batch, t *Table, tc *tableChanges) {
	var keys []any
	for _, ch := range tc.order {
		if ch.deleted {
			keys = append(keys, native(ch.values[0]))
		}
	}
	if len(keys) > 0 {
		key := t.Columns[0]
		batch.Queue(fmt.Sprintf("delete from %s where %s = any($1::%s[])", t.Name, key.Name, key.Type), keys)
	}
}

// queueInserts makes at most one statement, which inserts all new rows.
func queueInserts(batch *pgx.Batch, t *Table, tc *tableChanges) {
	arrays := newArrays(t, allColumns)
	for _, ch := range tc.order {
		if ch.created {
			arrays.add(ch)
		}
	}
	if arrays.rows > 0 {
		batch.Queue(fmt.Sprintf("insert into %s (%s) select * from %s", t.Name, arrays.names(), arrays.unnest()), arrays.values...)
	}
}

// queueUpdates makes a statement for each set of columns that change together, so that none touches another column.
func queueUpdates(batch *pgx.Batch, t *Table, tc *tableChanges) {
	groups := map[uint64]*arrays{}
	var order []*arrays
	for _, ch := range tc.order {
		if ch.created || ch.set == 0 {
			continue
		}
		group := groups[ch.set]
		if group == nil {
			group = newArrays(t, ch.set)
			groups[ch.set] = group
			order = append(order, group)
		}
		group.add(ch)
	}
	for _, a := range order {
		batch.Queue(fmt.Sprintf("update %s t set %s from %s as u (%s) where t.%s = u.%s", t.Name, a.assignments(), a.unnest(), a.names(),
			t.Columns[0].Name, t.Columns[0].Name), a.values...)
	}
}

func queueSweep(batch *pgx.Batch, sweep []Statement) {
	for _, s := range sweep {
		batch.Queue(s.SQL, s.Args...)
	}
}

// arrays are the changes of rows turned into one array a column, the form that unnest takes.
type arrays struct {
	columns []Column
	places  []int // of the columns in their table
	values  []any // of []any
	rows    int
}

// allColumns is the set of every column.
const allColumns = ^uint64(0)

// newArrays is for the key and the columns of a set.
func newArrays(t *Table, set uint64) *arrays {
	a := &arrays{}
	for place, c := range t.Columns {
		if place == 0 || set&(1<<place) != 0 {
			a.columns, a.places, a.values = append(a.columns, c), append(a.places, place), append(a.values, []any(nil))
		}
	}
	return a
}

func (a *arrays) add(ch *change) {
	a.rows++
	for i, place := range a.places {
		a.values[i] = append(a.values[i].([]any), native(ch.values[place]))
	}
}

func (a *arrays) names() string { return columnNames(a.columns) }

func (a *arrays) unnest() string {
	parameters := make([]string, len(a.columns))
	for i, c := range a.columns {
		parameters[i] = fmt.Sprintf("$%d::%s[]", i+1, c.Type)
	}
	return "unnest(" + strings.Join(parameters, ", ") + ")"
}

func (a *arrays) assignments() string {
	sets := make([]string, 0, len(a.columns)-1)
	for _, c := range a.columns[1:] {
		sets = append(sets, fmt.Sprintf("%s = u.%s", c.Name, c.Name))
	}
	return strings.Join(sets, ", ")
}

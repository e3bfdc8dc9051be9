package projections

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore/feed"
)

// write sends the changes to the projection's tables: one round trip, and for each table at most one statement that
// deletes, one that inserts, and one for each set of columns that change together.
func (p *Projection) write(ctx context.Context, tx feed.Tx, changes *Changes) error {
	var batch pgx.Batch
	for _, t := range p.Tables {
		if tc := changes.tables[t]; tc != nil {
			queueDeletes(&batch, t, tc)
			queueInserts(&batch, t, tc)
			queueUpdates(&batch, t, tc)
		}
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("write the tables of %s: %w", p.Name, err)
	}
	return nil
}

func queueDeletes(batch *pgx.Batch, t *Table, tc *tableChanges) {
	var keys []any
	for _, key := range tc.order {
		if ch := tc.changes[key]; ch.deleted && !ch.created {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		key := t.Columns[0]
		batch.Queue(fmt.Sprintf("delete from %s where %s = any($1::%s[])", t.Name, key.Name, key.Type), keys)
	}
}

func queueInserts(batch *pgx.Batch, t *Table, tc *tableChanges) {
	arrays := newArrays(t.Columns)
	for _, key := range tc.order {
		if ch := tc.changes[key]; ch.created && !ch.deleted {
			arrays.add(key, ch.row)
		}
	}
	if arrays.rows > 0 {
		batch.Queue(fmt.Sprintf("insert into %s (%s) select * from %s", t.Name, arrays.names(), arrays.unnest()), arrays.values...)
	}
}

// queueUpdates groups the changed rows by which columns change, so that a statement touches no other column.
func queueUpdates(batch *pgx.Batch, t *Table, tc *tableChanges) {
	groups := map[string]*arrays{}
	var order []string
	for _, key := range tc.order {
		ch := tc.changes[key]
		if ch.created || ch.deleted || len(ch.row) == 0 {
			continue
		}
		columns := changedColumns(t, ch.row)
		group := columnNames(columns)
		if groups[group] == nil {
			groups[group] = newArrays(columns)
			order = append(order, group)
		}
		groups[group].add(key, ch.row)
	}
	for _, group := range order {
		a := groups[group]
		batch.Queue(fmt.Sprintf("update %s t set %s from %s as u (%s) where t.%s = u.%s", t.Name, a.assignments(), a.unnest(), a.names(),
			t.Columns[0].Name, t.Columns[0].Name), a.values...)
	}
}

// changedColumns are the key and the columns that row names, in the table's order.
func changedColumns(t *Table, row Row) []Column {
	columns := []Column{t.Columns[0]}
	for _, c := range t.Columns[1:] {
		if _, ok := row[c.Name]; ok {
			columns = append(columns, c)
		}
	}
	return columns
}

func columnNames(columns []Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// arrays are rows turned into one array a column, the form that unnest takes.
type arrays struct {
	columns []Column
	values  []any // of []any
	rows    int
}

func newArrays(columns []Column) *arrays {
	return &arrays{columns: columns, values: slices.Repeat([]any{[]any(nil)}, len(columns))}
}

func (a *arrays) add(key any, row Row) {
	a.rows++
	for i, c := range a.columns {
		value := row[c.Name]
		if i == 0 {
			value = key
		}
		a.values[i] = append(a.values[i].([]any), value)
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

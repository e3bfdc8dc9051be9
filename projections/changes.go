package projections

import "fmt"

// Row is a row's values. A column that is not named keeps its value, or is null in a new row.
type Row []Value

// Value is what one column of a row is set to.
type Value struct {
	Column string
	Value  any
}

// Changes are what a run of events does to tables: new rows, changed columns, deleted rows. Several changes of one row
// become one, so at most one of them stands for a key.
type Changes struct {
	tables map[*Table]*tableChanges
}

// tableChanges are the changes of one table's rows. A rebuild folds millions of rows, so they lie close together: by
// the place of their column in the table, many to an allocation.
type tableChanges struct {
	order []*change // by first change, so that statements are the same each time
	byKey map[any]*change

	changes []change // not handed out yet
	values  []any    // not handed out yet
}

// slab is for how many rows memory is taken at once.
const slab = 256

// change is what happens to the row of a key. A row that is deleted and then inserted again is both.
type change struct {
	values  []any  // by the place of their column; the key is the first
	set     uint64 // bit n: column n is named
	created bool   // the row is new
	deleted bool   // the row that stood in the table before is gone
}

func newChanges() *Changes { return &Changes{tables: map[*Table]*tableChanges{}} }

// Insert adds a new row.
func (c *Changes) Insert(t *Table, key any, row Row) {
	ch := c.of(t, key)
	ch.created = true
	ch.assign(t, row)
}

// Update changes columns of a row that stands in the table or was inserted before. Where there is none nothing happens.
func (c *Changes) Update(t *Table, key any, row Row) {
	if ch := c.of(t, key); ch.created || !ch.deleted {
		ch.assign(t, row)
	}
}

// Delete removes a row.
func (c *Changes) Delete(t *Table, key any) {
	ch := c.of(t, key)
	if !ch.created {
		ch.deleted = true
	}
	clear(ch.values[1:])
	ch.created, ch.set = false, 0
}

func (c *Changes) of(t *Table, key any) *change {
	tc := c.tables[t]
	if tc == nil {
		tc = &tableChanges{byKey: map[any]*change{}}
		c.tables[t] = tc
	}
	ch := tc.byKey[key]
	if ch == nil {
		ch = tc.add(t, key)
	}
	return ch
}

func (tc *tableChanges) add(t *Table, key any) *change {
	width := len(t.Columns)
	if len(tc.changes) == 0 {
		tc.changes, tc.values = make([]change, slab), make([]any, slab*width)
	}
	ch := &tc.changes[0]
	ch.values = tc.values[:width:width]
	tc.changes, tc.values = tc.changes[1:], tc.values[width:]
	ch.values[0] = key
	tc.byKey[key] = ch
	tc.order = append(tc.order, ch)
	return ch
}

func (ch *change) assign(t *Table, row Row) {
	place := 0
	for _, v := range row {
		place = t.place(v.Column, place)
		ch.values[place] = v.Value
		ch.set |= 1 << place
	}
}

// place is where a column stands in the table. The search begins at from: rows name columns in the table's order.
func (t *Table) place(column string, from int) int {
	for i := range t.Columns {
		place := (from + i) % len(t.Columns)
		if t.Columns[place].Name == column {
			return place
		}
	}
	panic(fmt.Sprintf("the table %s has no column %s", t.Name, column))
}

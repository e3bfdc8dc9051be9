// Package projections builds what VoltRun reads from what the log says.
//
// A projection is a name, the tables that it owns, and a pure fold from a page of events to changes of rows. One writer
// turns changes into statements. Each projection follows the log on its own and moves its checkpoint in the transaction
// that writes its rows, so that a read table is always exactly a prefix of history. Nothing here decides anything: that
// is done from the log itself.
package projections

import (
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Position is an event's place in the log; lists and waits are told in it.
type Position = eventstore.Position

// Projection is one read model.
type Projection struct {
	Name string
	// Version is raised whenever DDL or Fold change their meaning; the read model is then built anew from position 1.
	Version int
	// DDL creates the tables and their indexes, in names without a schema.
	DDL string
	// Tables are what the DDL creates, in the order in which they are written.
	Tables []*Table
	// Types are the event types that Fold gets to see.
	Types []string
	// Fold says what one event does to the tables. It is pure, and a page of events is folded one by one, in order.
	Fold func(Recorded, *Changes)
}

// Recorded is a decoded event with what the log knows of it.
type Recorded struct {
	eventstore.Event
	Fact domain.Event
}

// All lists every projection.
func All() []*Projection {
	return []*Projection{accountsProjection, functionsProjection, executionsProjection, keysProjection}
}

// types lists the stored names of these events.
func types(events ...domain.Event) []string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.EventType()
	}
	return names
}

// Table is one table of a read model. The first column is its key.
type Table struct {
	Name    string
	Columns []Column
}

// Column is one column of a table, with its Postgres type.
type Column struct{ Name, Type string }

// Row is a row's values by column name. A column that is not named keeps its value, or is null in a new row.
type Row map[string]any

// Changes are what a page of events does to tables: new rows, changed columns, deleted rows. Several changes of one row
// within a page become one.
type Changes struct {
	tables map[*Table]*tableChanges
}

type tableChanges struct {
	order   []any // keys in the order of their first change, so that statements are the same each time
	changes map[any]*change
}

type change struct {
	row     Row
	created bool // the row is new in this page
	deleted bool
}

func newChanges() *Changes { return &Changes{tables: map[*Table]*tableChanges{}} }

// Insert adds a new row.
func (c *Changes) Insert(t *Table, key any, row Row) {
	change := c.of(t, key)
	change.created, change.row = true, row
}

// Update changes columns of a row that stands in the table or was inserted before.
func (c *Changes) Update(t *Table, key any, row Row) {
	change := c.of(t, key)
	for column, value := range row {
		change.row[column] = value
	}
}

// Delete removes a row.
func (c *Changes) Delete(t *Table, key any) { c.of(t, key).deleted = true }

func (c *Changes) of(t *Table, key any) *change {
	tc := c.tables[t]
	if tc == nil {
		tc = &tableChanges{changes: map[any]*change{}}
		c.tables[t] = tc
	}
	ch := tc.changes[key]
	if ch == nil {
		ch = &change{row: Row{}}
		tc.changes[key] = ch
		tc.order = append(tc.order, key)
	}
	return ch
}

// optional turns the nil UUID into null.
func optional(id uuid.UUID) any {
	if id == uuid.Nil {
		return nil
	}
	return id
}

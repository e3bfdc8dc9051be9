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
	// DDL creates the tables with their primary keys, in names without a schema.
	DDL string
	// Indexes creates what a rebuild makes after it has filled the tables, which is faster: all other indexes and statistics.
	Indexes string
	// Tables are what the DDL creates, in the order in which they are written.
	Tables []*Table
	// Types are the event types that Fold gets to see.
	Types []string
	// Fold says what one event does to the tables. It is pure, and a page of events is folded one by one, in order.
	Fold func(Recorded, *Changes)
	// Sweep says which statements an event needs beside Fold, because it changes more rows than it can name. It is pure as
	// well, and may be nil. The statements run, in order, when what was folded before this event is written, and then Fold sees the event.
	Sweep func(Recorded) []Statement
}

// Statement is SQL over the projection's own tables, in names without a schema, and its arguments.
type Statement struct {
	SQL  string
	Args []any
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

func (p *Projection) tableNames() []string {
	names := make([]string, len(p.Tables))
	for i, t := range p.Tables {
		names[i] = t.Name
	}
	return names
}

// sweep tells what an event sweeps, if anything.
func (p *Projection) sweep(r Recorded) []Statement {
	if p.Sweep == nil {
		return nil
	}
	return p.Sweep(r)
}

// find returns the projection of that name, or nil.
func find(list []*Projection, name string) *Projection {
	for _, p := range list {
		if p.Name == name {
			return p
		}
	}
	return nil
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

// optional turns the nil UUID into null.
func optional(id uuid.UUID) any {
	if id == uuid.Nil {
		return nil
	}
	return id
}

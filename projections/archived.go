package projections

import (
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

var logLine = domain.ExecutionLogLine{}.EventType()

// ofArchived is the condition that an execution x belongs to whom a domain.LogArchived is about.
const ofArchived = "(cardinality($3::uuid[]) = 0 or x.account_id = any($3)) and x.account_id <> all($4::uuid[])"

// sweepArchived removes the lines that were moved to the archive. A rebuild that comes later does not find them in the
// log; it knows by foldArchived which executions had some.
func sweepArchived(r Recorded) []Statement {
	e, ok := r.Fact.(domain.LogArchived)
	if !ok {
		return nil
	}
	// A nil slice is null, which is equal to nothing and different from nothing.
	args := []any{e.From, e.To, append([]uuid.UUID{}, e.Accounts...), append([]uuid.UUID{}, e.Except...)}
	return []Statement{
		{"update executions x set logs_archived = true where " + ofArchived +
			" and id in (select execution_id from execution_logs where position between $1 and $2)", args},
		{"delete from execution_logs l using executions x where l.position between $1 and $2 and x.id = l.execution_id and " + ofArchived, args},
	}
}

// foldArchived notes that a line is in the archive.
func foldArchived(r Recorded, e domain.Archived, c *Changes) {
	if e.Type == logLine {
		c.Update(executionsTable, r.StreamID, Row{{"logs_archived", true}})
	}
}

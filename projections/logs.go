package projections

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// ExecutionLogs is what an execution printed, as the API shows it.
type ExecutionLogs struct {
	ExecutionID uuid.UUID              `json:"execution_id" db:"execution_id"`
	Logs        string                 `json:"logs" db:"logs"`                             // lines in the order in which they were written, each with its newline
	Archived    bool                   `json:"logs_archived,omitempty" db:"logs_archived"` // some of them were moved to the archive
	Missing     string                 `json:"logs_missing,omitempty" db:"-"`              // says what of them cannot be shown, and why
	Status      domain.ExecutionStatus `json:"status" db:"status"`
}

// The table of the lines belongs to the projection of the executions, so that whoever reads an execution's end reads all
// that it printed. A line's own key is its position; the primary key leads with the execution, by which lines are read.
var logsTable = &Table{Name: "execution_logs", Columns: []Column{
	{"position", "bigint"}, {"execution_id", "uuid"}, {"stream", "text"}, {"text", "text"}, {"written_at", "timestamptz"},
}}

var logsDDL = `create table execution_logs (
	execution_id uuid        not null,
	position     bigint      not null,
	stream       text        not null,
	text         text        not null,
	written_at   timestamptz not null,
	primary key (execution_id, position)
);` + noStatistics("execution_logs", "text")

// The log of the execution x as one string, in which every line ends with a newline, and the string's length in bytes.
const (
	logsColumn = `coalesce((select string_agg(l.text, E'\n' order by l.position) || E'\n'
		from execution_logs l where l.execution_id = x.id), '') as logs`
	logsSize = `(select coalesce(sum(octet_length(l.text) + 1), 0) from execution_logs l where l.execution_id = x.id)`
)

func foldLogLine(r Recorded, e domain.ExecutionLogLine, c *Changes) {
	c.Insert(logsTable, r.Position, Row{{"execution_id", r.StreamID}, {"stream", e.Stream}, {"text", e.Text}, {"written_at", e.At}})
}

// Logs reads what executions printed.
type Logs struct{ tables tables }

// Get returns the log of an account's execution so far, or a domain.NotFound error when it has no such execution.
func (l Logs) Get(ctx context.Context, accountID, executionID uuid.UUID) (ExecutionLogs, error) {
	db, missing, err := l.tables.row(ctx, executionsStory, accountID, executionID)
	if err != nil {
		return ExecutionLogs{}, err
	}
	logs, err := one[ExecutionLogs](ctx, db, noExecution(executionID),
		"select id as execution_id, "+logsColumn+", logs_archived, status from executions x where id = $1 and account_id = $2", executionID, accountID)
	logs.Missing = missingLines(missing)
	return logs, err
}

// missingLines tells people about lines of an execution that are in files of the archive which are not at hand.
func missingLines(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 line was moved to the archive, and its file is not there or is damaged. Ask the operator to put it back."
	default:
		return fmt.Sprintf("%d lines were moved to the archive, and their files are not there or are damaged. Ask the operator to put them back.", n)
	}
}

package projections

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Execution is an execution as the API shows it.
type Execution struct {
	ID              uuid.UUID              `json:"id" db:"id"`
	AccountID       uuid.UUID              `json:"user_id" db:"account_id"`
	FunctionID      uuid.UUID              `json:"function_id" db:"function_id"`
	FunctionVersion int                    `json:"function_version" db:"function_version"`
	Status          domain.ExecutionStatus `json:"status" db:"status"`
	Input           json.RawMessage        `json:"input" db:"input"`
	Output          json.RawMessage        `json:"output" db:"output"`
	Error           *string                `json:"error,omitempty" db:"error"`
	ErrorType       *string                `json:"error_type,omitempty" db:"error_type"`
	Stack           *string                `json:"stack,omitempty" db:"stack"`
	Logs            string                 `json:"logs" db:"logs"`
	LogsArchived    bool                   `json:"logs_archived,omitempty" db:"logs_archived"` // some of them were moved to the archive
	LogsMissing     string                 `json:"logs_missing,omitempty" db:"-"`              // says what of them cannot be shown, and why
	DurationMS      int64                  `json:"duration_ms" db:"duration_ms"`
	MemoryMB        int                    `json:"memory_used" db:"memory_used"`
	CPUMS           int64                  `json:"cpu_ms" db:"cpu_ms"`
	ColdStart       bool                   `json:"cold_start" db:"cold_start"` // it was the first of its process
	StartedAt       *time.Time             `json:"started_at,omitempty" db:"started_at"`
	CompletedAt     *time.Time             `json:"completed_at,omitempty" db:"completed_at"`
	CreatedAt       time.Time              `json:"created_at" db:"created_at"`
	Function        FunctionSummary        `json:"function" db:"function"`
}

// FunctionSummary is the function of an execution as it was when the execution was requested.
type FunctionSummary struct {
	ID      uuid.UUID `json:"id"`
	Name    string    `json:"name"`
	Runtime string    `json:"runtime"`
}

var executionsTable = &Table{Name: "executions", Columns: []Column{
	{"id", "uuid"}, {"account_id", "uuid"}, {"created_position", "bigint"},
	{"function_id", "uuid"}, {"function_version", "integer"}, {"function_name", "text"}, {"runtime", "text"},
	{"status", "text"}, {"worker_id", "uuid"}, {"input", "bytea"}, {"output", "bytea"},
	{"error", "text"}, {"error_type", "text"}, {"stack", "text"}, {"duration_ms", "bigint"}, {"memory_used", "integer"}, {"cpu_ms", "bigint"}, {"cold_start", "boolean"},
	{"created_at", "timestamptz"}, {"started_at", "timestamptz"}, {"completed_at", "timestamptz"}, {"logs_archived", "boolean"},
}}

var executionsProjection = &Projection{
	Name: "executions", Version: 4, Tables: []*Table{executionsTable, logsTable},
	// Input and output are bytea because they may hold \u0000, which Postgres's JSON types refuse.
	DDL: `create table executions (
		id               uuid        not null primary key,
		account_id       uuid        not null,
		created_position bigint      not null,
		function_id      uuid        not null,
		function_version integer     not null,
		function_name    text        not null,
		runtime          text        not null,
		status           text        not null,
		worker_id        uuid,
		input            bytea       not null,
		output           bytea,
		error            text,
		error_type       text,
		stack            text,
		duration_ms      bigint      not null,
		memory_used      integer     not null,
		cpu_ms           bigint      not null,
		cold_start       boolean     not null,
		created_at       timestamptz not null,
		started_at       timestamptz,
		completed_at     timestamptz,
		logs_archived    boolean     not null default false
	) with (fillfactor = 80);
	` + noStatistics("executions", "function_name", "input", "output", "error", "error_type", "stack") + logsDDL,
	Indexes: `create index executions_newest_first on executions (account_id, created_position desc);
	create index executions_of_function on executions (function_id, created_position desc);
	create index executions_of_function_by_status on executions (function_id, status, created_position desc);
	create index executions_by_status on executions (account_id, status, created_position desc);
	create index executions_running on executions (worker_id) where status = 'running';
	-- Lines leave by their positions, see sweepArchived. They come in that order, so that this index has next to nothing in it.
	create index execution_logs_by_position on execution_logs using brin (position);
	-- A function has one account. Not knowing that, Postgres takes a condition on both for a rare match, and sorts.
	create statistics executions_of_account (dependencies) on account_id, function_id from executions`,
	Types: types(domain.ExecutionRequested{}, domain.ExecutionStarted{}, domain.ExecutionLogLine{},
		domain.ExecutionCompleted{}, domain.ExecutionFailed{}, domain.LogArchived{}, domain.AccountErased{}),
	Sweep: sweepExecutions,
	Fold:  foldExecution,
}

var sweepErasedExecutions = sweepErased(
	"delete from execution_logs where execution_id in (select id from executions where account_id = $1)",
	"delete from executions where account_id = $1",
)

func sweepExecutions(r Recorded) []Statement {
	return append(sweepArchived(r), sweepErasedExecutions(r)...)
}

func foldExecution(r Recorded, c *Changes) {
	switch e := r.Fact.(type) {
	case domain.ExecutionRequested:
		c.Insert(executionsTable, e.ExecutionID, Row{
			{"account_id", e.AccountID}, {"created_position", r.Position}, {"function_id", e.FunctionID}, {"function_version", e.FunctionVersion},
			{"function_name", e.FunctionName}, {"runtime", e.Runtime}, {"status", domain.ExecutionPending}, {"input", []byte(e.Input)},
			{"duration_ms", 0}, {"memory_used", 0}, {"cpu_ms", 0}, {"cold_start", false}, {"created_at", r.RecordedAt}, {"logs_archived", false},
		})
	case domain.ExecutionStarted:
		c.Update(executionsTable, r.StreamID, Row{
			{"status", domain.ExecutionRunning}, {"worker_id", optional(e.WorkerID)}, {"started_at", r.RecordedAt},
		})
	case domain.ExecutionLogLine:
		foldLogLine(r, e, c)
	case domain.Archived:
		foldArchived(r, e, c)
	case domain.ExecutionCompleted:
		c.Update(executionsTable, r.StreamID, Row{
			{"status", domain.ExecutionSuccess}, {"output", []byte(e.Output)}, {"duration_ms", e.DurationMS}, {"memory_used", e.MemoryMB},
			{"cpu_ms", e.CPUMS}, {"cold_start", e.ColdStart}, {"completed_at", r.RecordedAt},
		})
	case domain.ExecutionFailed:
		c.Update(executionsTable, r.StreamID, Row{
			{"status", domain.ExecutionFailure}, {"error", e.Error}, {"error_type", e.ErrorType}, {"stack", nullIfEmpty(e.Stack)},
			{"duration_ms", e.DurationMS}, {"memory_used", e.MemoryMB}, {"cpu_ms", e.CPUMS},
			{"cold_start", e.ColdStart}, {"completed_at", r.RecordedAt},
		})
	}
}

func nullIfEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Executions reads the executions, with their logs.
type Executions struct{ tables tables }

const executionColumns = `id, account_id, function_id, function_version, status, input, output, error, error_type, stack, duration_ms,
	memory_used, cpu_ms, cold_start, created_at, started_at, completed_at, logs_archived, ` + logsColumn + `,
	json_build_object('id', function_id, 'name', function_name, 'runtime', runtime) as function`

var executionListing = listing{
	table: "executions", story: executionsStory, columns: executionColumns,
	size: `length(input) + coalesce(length(output), 0) + coalesce(octet_length(error), 0) + coalesce(octet_length(stack), 0) + ` + logsSize,
}

// Get returns an account's execution, or a domain.NotFound error when it has none with that id.
func (x Executions) Get(ctx context.Context, accountID, id uuid.UUID) (Execution, error) {
	db, missing, err := x.tables.row(ctx, executionsStory, accountID, id)
	if err != nil {
		return Execution{}, err
	}
	execution, err := one[Execution](ctx, db, noExecution(id),
		"select "+executionColumns+" from executions x where id = $1 and account_id = $2", id, accountID)
	execution.LogsMissing = missingLines(missing)
	return execution, err
}

func noExecution(id uuid.UUID) error {
	return domain.Errorf(domain.NotFound, "There is no execution %s.", id)
}

// ExecutionFilter says which of an account's executions are wanted.
type ExecutionFilter struct {
	FunctionID uuid.UUID              // nil: any
	Status     domain.ExecutionStatus // empty: any
}

// List returns a page of an account's executions.
func (x Executions) List(ctx context.Context, accountID uuid.UUID, filter ExecutionFilter, part PageRequest) (Page[Execution], error) {
	var conditions []equal
	if filter.FunctionID != uuid.Nil {
		conditions = append(conditions, equal{"function_id", filter.FunctionID})
	}
	if filter.Status != "" {
		conditions = append(conditions, equal{"status", filter.Status})
	}
	return readPage[Execution](ctx, x.tables, executionListing, accountID, part, conditions...)
}

// Running is an execution that a worker claimed and has not ended.
type Running struct {
	ExecutionID uuid.UUID `db:"id"`
	WorkerID    uuid.UUID `db:"worker_id"`
}

// Running returns the executions of all accounts that workers hold, in no order.
func (x Executions) Running(ctx context.Context) ([]Running, error) {
	return many[Running](ctx, x.tables.db, "select id, worker_id from executions where status = 'running'")
}

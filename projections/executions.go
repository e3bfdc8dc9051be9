package projections

import (
	"context"
	"encoding/json"
	"fmt"
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
	DurationMS      int64                  `json:"duration_ms" db:"duration_ms"`
	MemoryMB        int                    `json:"memory_used" db:"memory_used"`
	StartedAt       *time.Time             `json:"started_at,omitempty" db:"started_at"`
	CompletedAt     *time.Time             `json:"completed_at,omitempty" db:"completed_at"`
	CreatedAt       time.Time              `json:"created_at" db:"created_at"`
	Function        FunctionSummary        `json:"function" db:"-"`

	// As they were when the execution was requested; the API shows them in Function.
	FunctionName string `json:"-" db:"function_name"`
	Runtime      string `json:"-" db:"runtime"`
	// Position orders executions: newest first is falling positions.
	Position int64 `json:"-" db:"created_position"`
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
	{"error", "text"}, {"error_type", "text"}, {"stack", "text"}, {"duration_ms", "bigint"}, {"memory_used", "integer"},
	{"created_at", "timestamptz"}, {"started_at", "timestamptz"}, {"completed_at", "timestamptz"},
}}

var executionsProjection = &Projection{
	Name: "executions", Version: 1, Tables: []*Table{executionsTable, logsTable},
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
		created_at       timestamptz not null,
		started_at       timestamptz,
		completed_at     timestamptz
	) with (fillfactor = 80);
	create index executions_newest_first on executions (account_id, created_position desc);
	create index executions_of_function on executions (function_id, created_position desc);
	create index executions_by_status on executions (account_id, status, created_position desc);
	create index executions_running on executions (worker_id) where status = 'running';
	` + logsDDL,
	Types: types(domain.ExecutionRequested{}, domain.ExecutionStarted{}, domain.ExecutionLogLine{},
		domain.ExecutionCompleted{}, domain.ExecutionFailed{}),
	Fold: foldExecution,
}

func foldExecution(r Recorded, c *Changes) {
	switch e := r.Fact.(type) {
	case domain.ExecutionRequested:
		c.Insert(executionsTable, e.ExecutionID, Row{
			"account_id": e.AccountID, "created_position": r.Position, "function_id": e.FunctionID, "function_version": e.FunctionVersion,
			"function_name": e.FunctionName, "runtime": e.Runtime, "status": domain.ExecutionPending, "input": []byte(e.Input),
			"duration_ms": 0, "memory_used": 0, "created_at": r.RecordedAt,
		})
	case domain.ExecutionStarted:
		c.Update(executionsTable, r.StreamID, Row{
			"status": domain.ExecutionRunning, "worker_id": optional(e.WorkerID), "started_at": r.RecordedAt,
		})
	case domain.ExecutionLogLine:
		foldLogLine(r, e, c)
	case domain.ExecutionCompleted:
		c.Update(executionsTable, r.StreamID, Row{
			"status": domain.ExecutionSuccess, "output": []byte(e.Output), "duration_ms": e.DurationMS, "memory_used": e.MemoryMB,
			"completed_at": r.RecordedAt,
		})
	case domain.ExecutionFailed:
		c.Update(executionsTable, r.StreamID, Row{
			"status": domain.ExecutionFailure, "error": e.Error, "error_type": e.ErrorType, "stack": nullIfEmpty(e.Stack),
			"duration_ms": e.DurationMS, "memory_used": e.MemoryMB, "completed_at": r.RecordedAt,
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
type Executions struct{ db Querier }

// The number of executions on a page.
const (
	DefaultPageSize = 50
	MaxPageSize     = 200
)

// maxPageBytes is where a page ends early, so that a few hundred large results cannot fill the server's memory. A page
// has at least one execution, however large.
const maxPageBytes = 8 << 20

// ExecutionFilter says which of an account's executions are wanted.
type ExecutionFilter struct {
	FunctionID uuid.UUID              // nil: any
	Status     domain.ExecutionStatus // empty: any
	Before     int64                  // the Position of the last execution seen; 0: start at the newest
	Limit      int                    // 1 to MaxPageSize
}

// ExecutionPage is a part of a list, newest first. Next is the filter's Before for the following page, 0 at the end.
type ExecutionPage struct {
	Executions []Execution
	Next       int64
}

const (
	executionColumns = `id, account_id, created_position, function_id, function_version, function_name, runtime, status, input, output,
		error, error_type, stack, duration_ms, memory_used, created_at, started_at, completed_at`
	// The log as one string: every line ends with a newline.
	logsColumn = `coalesce((select string_agg(l.text, E'\n' order by l.position) || E'\n'
		from execution_logs l where l.execution_id = x.id), '') as logs`
)

// Get returns an account's execution, or a domain.NotFound error when it has none with that id.
func (x Executions) Get(ctx context.Context, accountID, id uuid.UUID) (Execution, error) {
	e, err := one[Execution](ctx, x.db, noExecution(id),
		"select "+executionColumns+", "+logsColumn+" from executions x where id = $1 and account_id = $2", id, accountID)
	return e.complete(), err
}

func noExecution(id uuid.UUID) error {
	return domain.Errorf(domain.NotFound, "There is no execution %s.", id)
}

func (e Execution) complete() Execution {
	e.Function = FunctionSummary{ID: e.FunctionID, Name: e.FunctionName, Runtime: e.Runtime}
	return e
}

// List returns a page of an account's executions.
func (x Executions) List(ctx context.Context, accountID uuid.UUID, filter ExecutionFilter) (ExecutionPage, error) {
	conditions, args := filter.conditions(accountID)
	type listed struct {
		Execution
		Found int `db:"found"` // rows before the page was cut by size; one more than asked for if there is another page
	}
	rows, err := many[listed](ctx, x.db, `
		with page as (
			select `+executionColumns+`, `+logsColumn+` from executions x
			where `+conditions+` order by created_position desc limit $1
		), sized as (
			select *, count(*) over () as found, sum(length(input) + coalesce(length(output), 0) + octet_length(logs))
				over (order by created_position desc rows between unbounded preceding and 1 preceding) as size_before
			from page
		)
		select `+executionColumns+`, logs, found from sized where coalesce(size_before, 0) < $2 order by created_position desc`, args...)
	if err != nil {
		return ExecutionPage{}, err
	}
	page := ExecutionPage{Executions: make([]Execution, 0, len(rows))}
	for _, row := range rows[:min(len(rows), filter.Limit)] {
		page.Executions = append(page.Executions, row.complete())
	}
	if n := len(page.Executions); n > 0 && rows[0].Found > n {
		page.Next = page.Executions[n-1].Position
	}
	return page, nil
}

// conditions names only the filters that are set, so that each combination gets the plan that its index allows.
func (f ExecutionFilter) conditions(accountID uuid.UUID) (string, []any) {
	args := []any{f.Limit + 1, maxPageBytes, accountID}
	conditions := "account_id = $3"
	add := func(condition string, value any) {
		args = append(args, value)
		conditions += fmt.Sprintf(" and "+condition, len(args))
	}
	if f.Before > 0 {
		add("created_position < $%d", f.Before)
	}
	if f.FunctionID != uuid.Nil {
		add("function_id = $%d", f.FunctionID)
	}
	if f.Status != "" {
		add("status = $%d", f.Status)
	}
	return conditions, args
}

// Running is an execution that a worker claimed and has not ended.
type Running struct {
	ExecutionID uuid.UUID `db:"id"`
	WorkerID    uuid.UUID `db:"worker_id"`
}

// Running returns the executions of all accounts that workers hold, in no order.
func (x Executions) Running(ctx context.Context) ([]Running, error) {
	return many[Running](ctx, x.db, "select id, worker_id from executions where status = 'running'")
}

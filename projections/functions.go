package projections

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Function is a function as the API shows it.
type Function struct {
	ID          uuid.UUID             `json:"id" db:"id"`
	AccountID   uuid.UUID             `json:"user_id" db:"account_id"`
	Version     int                   `json:"version" db:"version"`
	Name        string                `json:"name" db:"name"`
	Description string                `json:"description" db:"description"`
	Runtime     string                `json:"runtime" db:"runtime"`
	Code        string                `json:"code" db:"code"`
	EntryPoint  string                `json:"entry_point" db:"entry_point"`
	MemoryMB    int                   `json:"memory_mb" db:"memory_mb"`
	TimeoutSec  int                   `json:"timeout_sec" db:"timeout_sec"`
	Network     domain.Network        `json:"network" db:"network"`         // empty: the server's default
	Concurrency int                   `json:"concurrency" db:"concurrency"` // 0: as many as the account's
	Status      domain.FunctionStatus `json:"status" db:"status"`
	CreatedAt   time.Time             `json:"created_at" db:"created_at"`
	UpdatedAt   time.Time             `json:"updated_at" db:"updated_at"`
}

const functionColumns = "id, account_id, version, name, description, runtime, code, entry_point, memory_mb, timeout_sec, network, concurrency, status, created_at, updated_at"

var functionsTable = &Table{Name: "functions", Columns: []Column{
	{"id", "uuid"}, {"account_id", "uuid"}, {"created_position", "bigint"}, {"version", "integer"},
	{"name", "text"}, {"description", "text"}, {"runtime", "text"}, {"code", "text"}, {"entry_point", "text"},
	{"memory_mb", "integer"}, {"timeout_sec", "integer"}, {"network", "text"}, {"concurrency", "integer"}, {"status", "text"},
	{"created_at", "timestamptz"}, {"updated_at", "timestamptz"},
}}

var functionsProjection = &Projection{
	Name: "functions", Version: 3, Tables: []*Table{functionsTable},
	DDL: `create table functions (
		id               uuid        not null primary key,
		account_id       uuid        not null,
		created_position bigint      not null,
		version          integer     not null,
		name             text        not null,
		description      text        not null,
		runtime          text        not null,
		code             text        not null,
		entry_point      text        not null,
		memory_mb        integer     not null,
		timeout_sec      integer     not null,
		network          text        not null,
		concurrency      integer     not null,
		status           text        not null,
		created_at       timestamptz not null,
		updated_at       timestamptz not null
	);` + noStatistics("functions", "name", "description", "code", "entry_point"),
	Indexes: `create index functions_newest_first on functions (account_id, created_position desc)`,
	Types:   types(domain.FunctionCreated{}, domain.FunctionUpdated{}, domain.FunctionDeleted{}, domain.AccountErased{}),
	Sweep:   sweepErased("delete from functions where account_id = $1"),
	Fold:    foldFunction,
}

func foldFunction(r Recorded, c *Changes) {
	switch e := r.Fact.(type) {
	case domain.FunctionCreated:
		c.Insert(functionsTable, e.FunctionID, Row{
			{"account_id", e.AccountID}, {"created_position", r.Position}, {"version", r.Version}, {"name", e.Name}, {"description", e.Description},
			{"runtime", e.Runtime}, {"code", e.Code}, {"entry_point", e.EntryPoint}, {"memory_mb", e.MemoryMB}, {"timeout_sec", e.TimeoutSec},
			{"network", e.Network}, {"concurrency", e.Concurrency}, {"status", domain.FunctionActive}, {"created_at", r.RecordedAt}, {"updated_at", r.RecordedAt},
		})
	case domain.FunctionUpdated:
		row := Row{{"version", r.Version}, {"updated_at", r.RecordedAt}}
		setIf(&row, "name", e.Name)
		setIf(&row, "description", e.Description)
		setIf(&row, "code", e.Code)
		setIf(&row, "entry_point", e.EntryPoint)
		setIf(&row, "memory_mb", e.MemoryMB)
		setIf(&row, "timeout_sec", e.TimeoutSec)
		setIf(&row, "network", e.Network)
		setIf(&row, "concurrency", e.Concurrency)
		setIf(&row, "status", e.Status)
		c.Update(functionsTable, r.StreamID, row)
	case domain.FunctionDeleted:
		c.Delete(functionsTable, r.StreamID)
	}
}

func setIf[T any](row *Row, column string, value *T) {
	if value != nil {
		*row = append(*row, Value{column, *value})
	}
}

// Functions reads the functions.
type Functions struct{ tables tables }

var functionListing = listing{
	table: "functions", story: functionsStory, columns: functionColumns, size: "octet_length(code) + octet_length(description)",
}

// List returns a page of an account's functions.
func (f Functions) List(ctx context.Context, accountID uuid.UUID, part PageRequest) (Page[Function], error) {
	return readPage[Function](ctx, f.tables, functionListing, accountID, part)
}

// Get returns an account's function, or a domain.NotFound error when it has none with that id.
func (f Functions) Get(ctx context.Context, accountID, id uuid.UUID) (Function, error) {
	db, _, err := f.tables.row(ctx, functionsStory, accountID, id)
	if err != nil {
		return Function{}, err
	}
	return one[Function](ctx, db, domain.NoFunction(id),
		"select "+functionColumns+" from functions where id = $1 and account_id = $2", id, accountID)
}

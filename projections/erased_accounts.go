package projections

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// ErasedAccount is an account that was erased.
type ErasedAccount struct {
	ID       uuid.UUID `db:"account_id"`
	Position Position  `db:"position"` // of its end
	ErasedAt time.Time `db:"erased_at"`
}

// The table of the erased accounts belongs to the projection of the accounts.
var erasedAccountsTable = &Table{Name: "erased_accounts", Columns: []Column{
	{"account_id", "uuid"}, {"position", "bigint"}, {"erased_at", "timestamptz"},
}}

const (
	erasedAccountsDDL = `create table erased_accounts (
		account_id uuid        not null primary key,
		position   bigint      not null,
		erased_at  timestamptz not null
	)`
	erasedAccountsIndexes = "create index erased_accounts_by_position on erased_accounts (position)"
)

// mostErased is how many erased accounts are looked at together.
const mostErased = 1000

// ErasedAfter lists accounts that were erased behind a position, the first ones first, mostErased at most.
func (a Accounts) ErasedAfter(ctx context.Context, position Position) ([]ErasedAccount, error) {
	return many[ErasedAccount](ctx, a.db,
		"select account_id, position, erased_at from erased_accounts where position > $1 order by position limit $2", position, mostErased)
}

// sweepErased is the Sweep of a projection that deletes an account's rows when it is erased. The account is $1.
func sweepErased(statements ...string) func(Recorded) []Statement {
	return func(r Recorded) []Statement {
		erased, ok := r.Fact.(domain.AccountErased)
		if !ok {
			return nil
		}
		sweep := make([]Statement, len(statements))
		for i, sql := range statements {
			sweep[i] = Statement{SQL: sql, Args: []any{erased.AccountID}}
		}
		return sweep
	}
}

// accounts is a set of accounts.
type accounts map[uuid.UUID]struct{}

// note adds the account of an event that can be read.
func (a accounts) note(r Recorded) {
	switch r.Fact.(type) {
	case domain.Redacted, domain.Archived, domain.Impersonal:
	default:
		a[r.AccountID] = struct{}{}
	}
}

// sweep tells what an event sweeps in a generation, if anything. Of most accounts that were erased there is nothing to
// delete, because nothing of them could be read; and without its indexes, looking for it would take a scan of the tables.
func (g *generation) sweep(r Recorded) []Statement {
	if erased, ok := r.Fact.(domain.AccountErased); ok {
		if _, readable := g.readable[erased.AccountID]; !readable {
			return nil
		}
	}
	g.readable.note(r)
	return g.projection.sweep(r)
}

// noStatistics keeps what people wrote out of the planner's statistics, which hold samples of values and outlive the rows
// and the tables that they were taken from.
func noStatistics(table string, columns ...string) string {
	var ddl strings.Builder
	for _, column := range columns {
		fmt.Fprintf(&ddl, "\nalter table %s alter column %s set statistics 0;\n", table, column)
	}
	return ddl.String()
}

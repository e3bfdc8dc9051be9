package projections

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Account is a person as the API shows them.
type Account struct {
	ID    uuid.UUID `json:"id" db:"id"`
	Email string    `json:"email" db:"email"`
	Name  string    `json:"name" db:"name"`
}

var accountsTable = &Table{Name: "accounts", Columns: []Column{
	{"id", "uuid"}, {"email", "text"}, {"name", "text"}, {"created_at", "timestamptz"}, {"log_line_days", "integer"},
}}

var accountsProjection = &Projection{
	Name: "accounts", Version: 2, Tables: []*Table{accountsTable, erasedAccountsTable},
	DDL: `create table accounts (
		id            uuid        not null primary key,
		email         text        not null,
		name          text        not null,
		created_at    timestamptz not null,
		log_line_days integer
	);` + noStatistics("accounts", "email", "name") + erasedAccountsDDL,
	Indexes: erasedAccountsIndexes,
	Types:   types(domain.AccountRegistered{}, domain.RetentionChanged{}, domain.AccountErased{}),
	Fold:    foldAccount,
}

func foldAccount(r Recorded, c *Changes) {
	switch e := r.Fact.(type) {
	case domain.AccountRegistered:
		c.Insert(accountsTable, e.AccountID, Row{{"email", e.Email}, {"name", e.Name}, {"created_at", r.RecordedAt}})
	case domain.AccountErased:
		c.Delete(accountsTable, e.AccountID)
		c.Insert(erasedAccountsTable, e.AccountID, Row{{"position", r.Position}, {"erased_at", r.RecordedAt}})
	case domain.RetentionChanged:
		if e.Kind == logLine {
			c.Update(accountsTable, r.StreamID, Row{{"log_line_days", e.Days}})
		}
	}
}

// Accounts reads the accounts.
type Accounts struct{ db Querier }

// Get returns an account, or a domain.NotFound error.
func (a Accounts) Get(ctx context.Context, id uuid.UUID) (Account, error) {
	return one[Account](ctx, a.db, domain.Errorf(domain.NotFound, "There is no account %s.", id),
		"select id, email, name from accounts where id = $1", id)
}

// FirstAccount is the account that was registered first, nil when there is none. It is read from the log, in which an
// account stays the first one for ever, also when it was erased.
func FirstAccount(ctx context.Context, log eventstore.Store) (uuid.UUID, error) {
	registered := domain.AccountRegistered{}.EventType()
	for event, err := range log.ReadAll(ctx, 0) {
		if err != nil {
			return uuid.Nil, err
		}
		// Who came with an import has registered elsewhere, and gets no rights here by it.
		if _, imported := event.Headers[eventstore.HeaderPosition]; event.Type == registered && !imported {
			return event.StreamID, nil
		}
	}
	return uuid.Nil, nil
}

// Retention is for how many days an account wants the events of a kind to stay in the database; nil: as the operator does.
type Retention struct {
	LogLine *int `json:"execution.log_line" db:"log_line_days"`
}

// Retention returns an account's own retention, or a domain.NotFound error.
func (a Accounts) Retention(ctx context.Context, id uuid.UUID) (Retention, error) {
	return one[Retention](ctx, a.db, domain.Errorf(domain.NotFound, "There is no account %s.", id),
		"select log_line_days from accounts where id = $1", id)
}

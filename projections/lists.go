package projections

import (
	"context"
	"fmt"
	"math"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PageRequest says which part of a list is wanted.
type PageRequest struct {
	Before Position // the Next of the page before; 0: start at the newest
	Limit  int      // at least 1
}

// Page is a part of a list, newest first. Next is the Before of the following page, 0 at the end.
type Page[T any] struct {
	Items []T // never nil
	Next  Position
}

// maxPageBytes is where a page ends early, so that a few hundred large results cannot fill the server's memory. A page
// has at least one item, however large.
const maxPageBytes = 8 << 20

// listing is a table as its rows' owners list it. The table has the columns account_id and created_position, and its
// rows are called x.
type listing struct {
	table   string
	story   *story
	columns string // what is read of a row that is on the page
	size    string // SQL: about how many bytes of a page a row takes
}

// equal wants a value in a column.
type equal struct {
	column string
	value  any
}

// readPage reads a page of what an account has and what these conditions are true of.
func readPage[T any](ctx context.Context, t tables, l listing, accountID uuid.UUID, part PageRequest, conditions ...equal) (Page[T], error) {
	if t.past != nil {
		return pastPage[T](ctx, t.past, l, accountID, part, conditions)
	}
	return presentPage[T](ctx, t.db, l, accountID, part, conditions)
}

// presentPage reads a page from tables. Rows are measured first, so that only those that fit on the page are read.
func presentPage[T any](ctx context.Context, db Querier, l listing, accountID uuid.UUID, part PageRequest, conditions []equal) (Page[T], error) {
	sql, args := l.query(accountID, part, conditions)
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return Page[T]{}, fmt.Errorf("query a read model: %w", err)
	}
	var page Page[T]
	var last Position
	var found int
	page.Items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (T, error) {
		return pgx.RowToStructByName[T](listedRow{row, &last, &found})
	})
	if err != nil {
		return Page[T]{}, fmt.Errorf("query a read model: %w", err)
	}
	if found > len(page.Items) {
		page.Next = last
	}
	return page, nil
}

// query names only the conditions that are set, so that each combination gets the plan that its index allows. It looks at
// one row more than the page has, to know whether there is another page.
func (l listing) query(accountID uuid.UUID, part PageRequest, conditions []equal) (string, []any) {
	if part.Before == 0 {
		part.Before = math.MaxInt64
	}
	where := "account_id = $1 and created_position < $2"
	args := []any{accountID, part.Before, part.Limit, maxPageBytes}
	for _, c := range conditions {
		args = append(args, c.value)
		where += fmt.Sprintf(" and %s = $%d", c.column, len(args))
	}
	return `with candidates as (
			select *, ` + l.size + ` as size from ` + l.table + ` x where ` + where + ` order by created_position desc limit $3 + 1
		), measured as (
			select *, count(*) over () as found, sum(size)
				over (order by created_position desc rows between unbounded preceding and 1 preceding) as size_before
			from candidates
		)
		select created_position, found, ` + l.columns + ` from measured x
		where coalesce(size_before, 0) < $4 order by created_position desc limit $3`, args
}

// listedRow is a row of a listing's query without the first two columns, which go elsewhere.
type listedRow struct {
	pgx.CollectableRow
	position *Position
	found    *int
}

// FieldDescriptions implements pgx.CollectableRow.
func (r listedRow) FieldDescriptions() []pgconn.FieldDescription {
	return r.CollectableRow.FieldDescriptions()[2:]
}

// Scan implements pgx.CollectableRow.
func (r listedRow) Scan(dest ...any) error {
	return r.CollectableRow.Scan(append([]any{r.position, r.found}, dest...)...)
}

package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
)

// Moment is a place in history: a position, or a time, which stands for the newest position that was recorded by then.
type Moment struct {
	Position Position
	Time     time.Time // zero: Position counts
}

// AsOf returns the queries of an account's functions, executions, logs and keys as they would have answered when the log
// ended at that moment, and the position that this is. It answers domain.Invalid for a moment in the future.
func (h *History) AsOf(ctx context.Context, m Moment) (*Queries, Position, error) {
	at, err := h.resolve(ctx, m)
	if err != nil {
		return nil, 0, err
	}
	then := tables{db: onlyNow{}, past: &past{history: h, at: at}}
	return &Queries{
		Accounts: Accounts{onlyNow{}}, Functions: Functions{then}, Executions: Executions{then}, Logs: Logs{then}, Keys: Keys{then},
	}, at, nil
}

func (h *History) resolve(ctx context.Context, m Moment) (Position, error) {
	if !m.Time.IsZero() {
		return h.resolveTime(ctx, m)
	}
	head, err := h.head(ctx)
	if err == nil && m.Position > head {
		err = domain.Errorf(domain.Invalid, "as_of must not lie in the future: the newest position is %d, but as_of is %d.", head, m.Position)
	}
	return m.Position, err
}

// resolveTime asks the database what time it is: its clock is the one by which events are recorded.
func (h *History) resolveTime(ctx context.Context, m Moment) (Position, error) {
	var at Position
	var future bool
	if err := h.db.QueryRow(ctx, "select position_at($1), $1 > clock_timestamp()", m.Time).Scan(&at, &future); err != nil {
		return 0, fmt.Errorf("find the position at %s: %w", m.Time, err)
	}
	if future {
		return 0, domain.Errorf(domain.Invalid, "as_of must not lie in the future, but is %s.", m.Time.UTC().Format(time.RFC3339Nano))
	}
	return at, nil
}

// onlyNow stands for tables that nobody reads as of a moment.
type onlyNow struct{}

// Query implements Querier.
func (onlyNow) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return nil, errors.New("this read model can only be read as it is now")
}

// tables are where queries read: the tables as they are, or as they were at a position.
type tables struct {
	db   Querier
	past *past // nil: as they are
}

// row returns what a query for one row of an account reads. Of the past it has that row only.
func (t tables) row(ctx context.Context, s *story, accountID, id uuid.UUID) (Querier, error) {
	if t.past == nil {
		return t.db, nil
	}
	changes := newChanges()
	if _, err := t.past.fold(ctx, s, accountID, []uuid.UUID{id}, changes); err != nil {
		return nil, err
	}
	return shadow{t.past.history.db, s, changes}, nil
}

// What a page of the past may cost at most: so many rows are made anew from so many bytes of events, or a few more.
const (
	maxFolded      = 2000
	maxFoldedBytes = 4 * maxPageBytes
)

// pastPage makes the rows of a list anew, newest first, and asks the list's query for a page of them, with twice as many
// again as long as the page is not full. When that becomes too much the page is short, and the next one goes on behind it.
func pastPage[T any](ctx context.Context, p *past, l listing, accountID uuid.UUID, part PageRequest, conditions []equal) (Page[T], error) {
	changes := newChanges()
	before := p.at + 1
	if part.Before > 0 {
		before = min(before, part.Before)
	}
	folded, bytes := 0, 0
	for chunk := part.Limit + 1; ; chunk = min(2*chunk, maxFolded-folded) {
		found, err := p.created(ctx, l.story, accountID, before, chunk)
		if err != nil {
			return Page[T]{}, err
		}
		done, read, err := p.foldMost(ctx, l.story, accountID, found, maxFoldedBytes-bytes, changes)
		if err != nil {
			return Page[T]{}, err
		}
		page, err := presentPage[T](ctx, shadow{p.history.db, l.story, changes}, l, accountID, part, conditions)
		if err != nil || page.Next > 0 || done == len(found) && len(found) < chunk {
			return page, err
		}
		folded, bytes, before = folded+done, bytes+read, found[done-1].Position
		if folded >= maxFolded || bytes >= maxFoldedBytes {
			page.Next = before
			return page, nil
		}
	}
}

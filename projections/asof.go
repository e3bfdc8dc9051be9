package projections

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
)

// Moment is a place in history: a position or a time.
type Moment struct {
	Position Position
	Time     time.Time // zero: Position counts
}

// String writes a moment as the API takes it.
func (m Moment) String() string {
	if m.Time.IsZero() {
		return strconv.FormatInt(int64(m.Position), 10)
	}
	return m.Time.UTC().Format(time.RFC3339Nano)
}

// AsOf returns the queries of an account's functions, executions, logs and keys as they would have answered at that moment,
// and the moment by its position. Only one from before the account was imported from another log stays a time: the log was
// never as the account was then. It answers domain.Invalid for a moment in the future.
func (h *History) AsOf(ctx context.Context, accountID uuid.UUID, m Moment) (*Queries, Moment, error) {
	p, err := h.resolve(ctx, accountID, m)
	if err != nil {
		return nil, Moment{}, err
	}
	return p.queries(), Moment{p.at, p.until}, nil
}

func (h *History) resolve(ctx context.Context, accountID uuid.UUID, m Moment) (*past, error) {
	if !m.Time.IsZero() {
		return h.resolveTime(ctx, accountID, m.Time)
	}
	head, err := h.head(ctx)
	if err == nil && m.Position > head {
		err = domain.Errorf(domain.Invalid, "as_of must not lie in the future: the newest position is %d, but as_of is %d.", head, m.Position)
	}
	return &past{history: h, at: m.Position}, err
}

// resolveTime asks the database what time it is: its clock is the one by which events are recorded.
func (h *History) resolveTime(ctx context.Context, accountID uuid.UUID, at time.Time) (*past, error) {
	var position, imported Position
	var future bool
	err := h.db.QueryRow(ctx, "select position_at($1), $1 > clock_timestamp(), imported_after($2, $1)", at, accountID).Scan(&position, &future, &imported)
	switch {
	case err != nil:
		return nil, fmt.Errorf("find the position at %s: %w", at, err)
	case future:
		return nil, domain.Errorf(domain.Invalid, "as_of must not lie in the future, but is %s.", at.UTC().Format(time.RFC3339Nano))
	case imported > 0:
		return &past{history: h, at: imported, until: at}, nil
	}
	return &past{history: h, at: position}, nil
}

func (p *past) queries() *Queries {
	then := tables{db: onlyNow{}, past: p}
	return &Queries{
		Accounts: Accounts{onlyNow{}}, Functions: Functions{then}, Executions: Executions{then}, Logs: Logs{then}, Keys: Keys{then},
	}
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

// row returns what a query for one row of an account reads. Of the past it has that row only, without what is in files of the
// archive that are not at hand: missing says how many events that is.
func (t tables) row(ctx context.Context, s *story, accountID, id uuid.UUID) (db Querier, missing int, err error) {
	if t.past == nil {
		return t.db, 0, nil
	}
	changes := newChanges()
	read, err := t.past.fold(ctx, s, accountID, []uuid.UUID{id}, changes)
	return shadow{t.past.history.db, s, changes}, read.missing, err
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
	before, err := p.end(ctx, l.story, accountID)
	if err != nil {
		return Page[T]{}, err
	}
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

package projections

import (
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"
)

// Has tells whether an account has, or had, something of a kind ("function", "execution") under an id.
func (h *History) Has(ctx context.Context, accountID uuid.UUID, kind string, id uuid.UUID) (has bool, err error) {
	err = h.db.QueryRow(ctx, `select exists (select from events
		where position = (select first_position from streams where stream_id = $1) and account_id = $2 and split_part(type, '.', 1) = $3)`,
		id, accountID, kind).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for %s %s: %w", kind, id, err)
	}
	return has, nil
}

// pageOfAll is how many events Pages reads at once.
const pageOfAll = 1000

// Pages yields everything that Audit finds, without regard to its limit, up to the head of the log at the time of the
// call. Each page is read on its own, so however long the caller takes over one, nothing is held in the database meanwhile.
func (h *History) Pages(ctx context.Context, accountID uuid.UUID, a Audit) iter.Seq2[[]Entry, error] {
	return func(yield func([]Entry, error) bool) {
		head, err := h.head(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		a.Limit = pageOfAll
		if a.To == 0 || a.To > head {
			a.To = head
		}
		for {
			page, err := h.Audit(ctx, accountID, a)
			if !yield(page.Items, err) || err != nil || page.Next == 0 {
				return
			}
			a.After = page.Next
		}
	}
}

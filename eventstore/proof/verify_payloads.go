package proof

import (
	"context"
	"errors"

	"github.com/voltrun/voltrun/eventstore"
)

// checkPayload makes sure that an event says what it committed to, or that there is a reason why it says nothing.
func (c *checker) checkPayload(ctx context.Context, r *row) error {
	if id, locked := c.locked[r.account.Bytes]; locked && r.data != nil && !r.plain() { // asking again takes its time
		c.report.Locked[id]++
		return nil
	}
	disclosure, err := c.payloads.disclose(ctx, r)
	var other *eventstore.NoMasterKeyError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &other):
		c.locked[r.account.Bytes] = other.ID
		c.report.Locked[other.ID]++
	case errors.Is(err, eventstore.ErrErased):
		c.report.Erased++
		if _, seen := c.unkeyed[r.account.Bytes]; !seen {
			c.unkeyed[r.account.Bytes] = r.position
		}
	case errors.Is(err, eventstore.ErrArchived):
		return c.checkArchived(ctx, r)
	case err != nil:
		c.report.add(r.position, "The payload at position %d (%s) cannot be read: %v.", r.position, r.about(), err)
	case !r.matches(disclosure):
		c.report.add(r.position, "The payload at position %d (%s) is not the one that was recorded.", r.position, r.about())
	default:
		c.report.Opened++
	}
	return nil
}

// checkArchived makes sure that a payload is missing because it was archived.
func (c *checker) checkArchived(ctx context.Context, r *row) error {
	if c.moved != nil {
		moved, err := c.moved(ctx, eventstore.Position(r.position), r.kind, r.account.Bytes)
		if err != nil {
			return err
		}
		if !moved {
			c.report.add(r.position, "The payload at position %d (%s) is gone, and the log does not say that it was archived.", r.position, r.about())
			return nil
		}
	}
	c.report.Archived++
	return nil
}

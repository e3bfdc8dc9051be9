package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/voltrun/voltrun/eventstore"
)

// lookEvery is how often a waiting caller looks whether another process has moved the checkpoint.
const lookEvery = 25 * time.Millisecond

// ErrPaused answers Wait for a consumer that is paused.
var ErrPaused = errors.New("is paused")

// Consumer is a message.Subscriber that delivers the log in pages, for a projection. When its handler fails for good,
// the consumer pauses: it keeps its place, shows why, and goes on from there after Resume or a restart. It never skips.
type Consumer struct {
	*Subscriber
	pace    *pace
	looking sync.Mutex // held by the one caller of Wait that looks into the database

	mu      sync.Mutex
	status  Status
	changed chan struct{} // closed and replaced with every change of status
	resumed chan struct{} // closed by Resume; nil when not paused
}

// Status is how a consumer is doing.
type Status struct {
	Consumer    string
	Position    eventstore.Position // committed at least up to here, as far as this process knows
	Paused      bool
	Error       string // why it is paused
	PausedSince time.Time
}

// Pages returns a consumer of the topic All. A page is delivered when the one before was committed. It covers the events
// of all types and yields those of the given types.
func (f *Feed) Pages(consumer string, types ...string) *Consumer {
	c := &Consumer{pace: newPace(), status: Status{Consumer: consumer}, changed: make(chan struct{})}
	c.Subscriber = newSubscriber(f, consumer, func(topic string) (source, error) {
		if topic != All {
			return nil, fmt.Errorf("consumer %s reads the topic %s, not %q", consumer, All, topic)
		}
		return pages{c, types}, nil
	})
	return c
}

// Status tells how the consumer is doing.
func (c *Consumer) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Resume lets a paused consumer try its page again. It does nothing when the consumer is not paused.
func (c *Consumer) Resume() {
	c.update(func(s *Status) {
		if c.resumed != nil {
			close(c.resumed)
			c.resumed = nil
		}
		s.Paused, s.Error, s.PausedSince = false, "", time.Time{}
	})
}

// Wait returns nil when the consumer has committed everything up to position, in this process or in another. It returns
// ctx's error when that takes longer than ctx allows, and ErrPaused at once when the consumer is paused before position.
func (c *Consumer) Wait(ctx context.Context, position eventstore.Position) error {
	if c.Status().Position >= position {
		return nil
	}
	defer c.pace.await()()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		status, changed := c.watch()
		switch {
		case status.Position >= position:
			return nil
		case status.Paused:
			return fmt.Errorf("%s %w at position %d", status.Consumer, ErrPaused, status.Position)
		}
		select {
		case <-changed:
		case <-look.C:
			c.look(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Consumer) watch() (Status, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status, c.changed
}

// look reads the checkpoint from the database, for all callers of Wait at once. When that fails there is nothing to do:
// they go on waiting.
func (c *Consumer) look(ctx context.Context) {
	if !c.looking.TryLock() {
		return
	}
	defer c.looking.Unlock()
	position, err := c.feed.checkpoint(ctx, c.consumer, All)
	if err == nil {
		c.update(func(s *Status) { s.Position = max(s.Position, position) })
	}
}

// observe notes what a read found under the lock: that the consumer has committed up to position, and not further.
func (c *Consumer) observe(position eventstore.Position) {
	c.update(func(s *Status) { s.Position = position })
}

// pause stands still until Resume or the end of ctx.
func (c *Consumer) pause(ctx context.Context, cause error) {
	resumed := make(chan struct{})
	c.update(func(s *Status) {
		c.resumed = resumed
		s.Paused, s.Error, s.PausedSince = true, explain(cause), time.Now().UTC()
	})
	c.feed.logger.Error("a consumer of the log is paused: its handler cannot go on",
		"consumer", c.consumer, "position", c.Status().Position, "error", cause)
	select {
	case <-resumed:
	case <-ctx.Done():
		c.Resume()
	}
}

func (c *Consumer) update(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.status
	if change(&c.status); c.status == before {
		return
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// explain leaves the stack of a panic to the log.
func explain(cause error) string {
	var panicked middleware.RecoveredPanicError
	if errors.As(cause, &panicked) {
		return fmt.Sprintf("panic: %v", panicked.V)
	}
	return cause.Error()
}

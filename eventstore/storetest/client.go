package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// client makes one call after the other.
type client struct {
	*history
	id       int
	store    eventstore.Store
	load     Load
	streams  []uuid.UUID
	versions map[uuid.UUID]int // of the streams, as far as the client knows
}

func (c *client) run() {
	for range c.load.Calls {
		switch rand.IntN(8) {
		case 0:
			c.readAll(rand.IntN(50))
		case 1:
			c.readHead()
		case 2:
			c.readStream(c.stream(), rand.IntN(3))
		case 3:
			c.appendTo(2, c.someStreams(min(2+rand.IntN(2), len(c.streams)))...)
		default:
			c.appendTo(1+rand.IntN(2), c.stream())
		}
	}
}

func (c *client) stream() uuid.UUID { return c.streams[rand.IntN(len(c.streams))] }

func (c *client) someStreams(n int) []uuid.UUID {
	var some []uuid.UUID
	for _, i := range rand.Perm(len(c.streams))[:n] {
		some = append(some, c.streams[i])
	}
	return some
}

// expected is Any sometimes, New seldom, and else the version that the client knows, which is often too old.
func (c *client) expected(stream uuid.UUID) eventstore.ExpectedVersion {
	switch rand.IntN(10) {
	case 0, 1, 2:
		return eventstore.Any
	case 3:
		return eventstore.New
	default:
		return eventstore.Exactly(c.versions[stream])
	}
}

func (c *client) operation(call any) porcupine.Operation {
	return porcupine.Operation{ClientId: c.id, Input: call, Call: c.now()}
}

func (c *client) appendTo(events int, streams ...uuid.UUID) {
	var writes []eventstore.Write
	for _, s := range streams {
		writes = append(writes, To(s, c.expected(s), make([]string, events)...))
	}
	if guarded := c.stream(); rand.IntN(3) == 0 && !slices.Contains(streams, guarded) {
		writes = append(writes, To(guarded, eventstore.Exactly(c.versions[guarded])))
	}
	ctx, cancel := c.patience()
	defer cancel()
	op := c.operation(appendCall{writes})
	position, err := c.store.Append(ctx, writes...)
	var conflict *eventstore.VersionConflict
	switch {
	case err == nil:
		c.add(op, appended{position: position})
		c.learn(writes)
	case errors.As(err, &conflict):
		c.add(op, appended{conflict: conflict})
		c.versions[conflict.StreamID] = conflict.Actual
	case ctx.Err() != nil:
		c.addUnknown(op)
	default:
		c.fail(fmt.Errorf("append: %w", err))
	}
}

// learn keeps the versions that an accepted append tells.
func (c *client) learn(writes []eventstore.Write) {
	for _, w := range writes {
		if w.Expected != eventstore.Any {
			c.versions[w.StreamID] = int(w.Expected) + len(w.Events)
		}
	}
}

// patience is a context that some of the appends outlast.
func (c *client) patience() (context.Context, context.CancelFunc) {
	if c.load.Patience == 0 || rand.IntN(4) > 0 {
		return context.WithCancel(context.Background())
	}
	return context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(c.load.Patience))))
}

func (c *client) readStream(stream uuid.UUID, behind int) {
	after := max(0, c.versions[stream]-behind)
	op := c.operation(readStreamCall{stream, after})
	var seen []record
	for e, err := range c.store.ReadStream(context.Background(), stream, after) {
		if err != nil {
			c.fail(fmt.Errorf("read a stream: %w", err))
			return
		}
		seen = append(seen, recordOf(e))
		c.versions[stream] = e.Version
	}
	c.add(op, seen)
}

func (c *client) readAll(after int) {
	op := c.operation(readAllCall{eventstore.Position(after)})
	var seen []record
	for e, err := range c.store.ReadAll(context.Background(), eventstore.Position(after)) {
		if err != nil {
			c.fail(fmt.Errorf("read the log: %w", err))
			return
		}
		seen = append(seen, recordOf(e))
	}
	c.add(op, seen)
}

func (c *client) readHead() {
	op := c.operation(headCall{})
	head, err := c.store.Head(context.Background())
	if err != nil {
		c.fail(fmt.Errorf("read the head: %w", err))
		return
	}
	c.add(op, head)
}

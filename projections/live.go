package projections

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
)

// Live are the projections that follow the log in this process.
type Live struct {
	order     []string
	consumers map[string]*feed.Consumer // by the projection's name
}

// Follow makes a handler on the router for each projection. They follow the log once the router runs.
func Follow(router *message.Router, log *feed.Feed, codec *eventstore.Codec, list []*Projection) *Live {
	live := &Live{consumers: map[string]*feed.Consumer{}}
	for _, p := range list {
		consumer := log.Pages(p.ConsumerName(), p.Types...)
		router.AddConsumerHandler(p.ConsumerName(), feed.All, consumer, func(msg *message.Message) error {
			return feed.InPage(msg, func(ctx context.Context, tx feed.Tx, page feed.Page) error {
				return p.handle(ctx, tx, codec, page)
			})
		})
		live.order = append(live.order, p.Name)
		live.consumers[p.Name] = consumer
	}
	return live
}

// ConsumerName is the name of a projection's checkpoint.
func (p *Projection) ConsumerName() string { return "projection." + p.Name }

// handle writes what a page of the log changes.
func (p *Projection) handle(ctx context.Context, tx feed.Tx, codec *eventstore.Codec, page feed.Page) error {
	// All of the page is read first: tx can write only when nothing is being read from it.
	var records []Recorded
	for event, err := range page.Events(ctx, tx) {
		if err != nil {
			return err
		}
		r, err := decode(ctx, codec, event)
		if err != nil {
			return err
		}
		records = append(records, r)
	}
	if len(records) == 0 {
		return nil
	}
	if err := p.requireVersion(ctx, tx, "projections"); err != nil {
		return err
	}
	changes := newChanges()
	for _, r := range records {
		if statements := p.sweep(r); len(statements) > 0 {
			if err := p.writeLive(ctx, tx, changes, statements); err != nil {
				return err
			}
			changes = newChanges()
		}
		p.Fold(r, changes)
	}
	return p.writeLive(ctx, tx, changes, nil)
}

// decode turns a stored event into what is folded. The payload is let go: the fact says the same.
func decode(ctx context.Context, codec *eventstore.Codec, event eventstore.Event) (Recorded, error) {
	fact, err := codec.Decode(ctx, event.NewEvent)
	if err != nil {
		return Recorded{}, fmt.Errorf("event %d: %w", event.Position, err)
	}
	if _, archived := fact.(domain.Archived); archived && !slices.Contains(domain.ArchivableKinds(), event.Type) {
		return Recorded{}, fmt.Errorf("event %d: the payload of %s is gone, and events of this type are never archived: run voltrun audit verify",
			event.Position, event.Type)
	}
	event.Data = nil
	event.RecordedAt = event.HappenedAt() // what was imported shows its own time
	return Recorded{Event: event, Fact: fact}, nil
}

// Wait returns when a projection shows everything up to position, at once for position 0. It fails when ctx ends or
// the projection is paused before that.
func (l *Live) Wait(ctx context.Context, name string, position Position) error {
	consumer, ok := l.consumers[name]
	if !ok {
		return fmt.Errorf("there is no projection %q", name)
	}
	return consumer.Wait(ctx, position)
}

// Resume lets a paused projection try again from where it stands. It does nothing to one that is not paused, and tells
// whether there is a projection of that name.
func (l *Live) Resume(name string) bool {
	consumer, ok := l.consumers[name]
	if ok {
		consumer.Resume()
	}
	return ok
}

// Status is where a projection stands.
type Status struct {
	Name        string     `json:"name"`
	Position    Position   `json:"position"`
	Lag         Position   `json:"lag"` // events behind the head
	State       string     `json:"state"`
	Error       string     `json:"error,omitempty"`
	PausedSince *time.Time `json:"paused_since,omitempty"`
}

// The states of a projection. A paused one keeps its place until what stopped it is mended; it never skips an event.
const (
	Following = "following"
	Paused    = "paused"
)

// Status tells where every projection stands against the head of the log, in the order in which they were given.
func (l *Live) Status(head Position) []Status {
	list := make([]Status, 0, len(l.order))
	for _, name := range l.order {
		c := l.consumers[name].Status()
		s := Status{Name: name, Position: c.Position, Lag: max(0, head-c.Position), State: Following}
		if c.Paused {
			s.State, s.Error, s.PausedSince = Paused, c.Error, &c.PausedSince
		}
		list = append(list, s)
	}
	return list
}

package projections

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
)

// ConsumerName is the name of a projection's checkpoint.
func (p *Projection) ConsumerName() string { return "projection." + p.Name }

// Follow makes a handler on the router for each projection, and returns them as a set that can be waited for and looked
// at. They follow the log once the router runs.
func Follow(router *message.Router, log *feed.Feed, codec *eventstore.Codec, list []*Projection) *Live {
	live := NewLive()
	for _, p := range list {
		consumer := log.Pages(p.ConsumerName())
		router.AddConsumerHandler(p.ConsumerName(), feed.All, consumer, func(msg *message.Message) error {
			return feed.InPage(msg, func(ctx context.Context, tx feed.Tx, page feed.Page) error {
				return p.handle(ctx, tx, codec, page)
			})
		})
		live.Add(p.Name, follower{consumer})
	}
	return live
}

// handle writes what a page of the log changes.
func (p *Projection) handle(ctx context.Context, tx feed.Tx, codec *eventstore.Codec, page feed.Page) error {
	changes := NewChanges()
	for event, err := range page.Events(ctx, tx) {
		if err != nil {
			return err
		}
		if err := p.FoldEvent(codec, event, changes); err != nil {
			return err
		}
	}
	return p.Write(ctx, tx, changes)
}

// follower is a feed's consumer as Live knows it.
type follower struct{ *feed.Consumer }

// Status implements Follower.
func (f follower) Status() FollowerStatus {
	s := f.Consumer.Status()
	status := FollowerStatus{Position: s.Position}
	if s.Paused {
		status.Err = errors.New(s.Error)
	}
	return status
}

package projections

import (
	"context"
	"fmt"

	"github.com/voltrun/voltrun/eventstore"
)

// Follower is a consumer of the log that carries one projection.
type Follower interface {
	// Wait returns when the rows of everything up to position can be read, or fails when ctx ends or the follower is
	// paused before.
	Wait(ctx context.Context, position eventstore.Position) error
	Status() FollowerStatus
}

// FollowerStatus is how far a follower is.
type FollowerStatus struct {
	Position eventstore.Position // everything up to here can be read
	Err      error               // why it is paused; nil while it runs
}

// Live are the projections that follow the log in this process, by name.
type Live struct {
	order     []string
	followers map[string]Follower
}

// NewLive makes an empty set.
func NewLive() *Live { return &Live{followers: map[string]Follower{}} }

// Add enters a projection's follower.
func (l *Live) Add(name string, f Follower) {
	l.order = append(l.order, name)
	l.followers[name] = f
}

// Wait returns when a projection shows everything up to position, at once for position 0. It fails when ctx ends or
// the projection is paused before that.
func (l *Live) Wait(ctx context.Context, name string, position eventstore.Position) error {
	f, ok := l.followers[name]
	if !ok {
		return fmt.Errorf("there is no projection %q", name)
	}
	if position == 0 {
		return nil
	}
	return f.Wait(ctx, position)
}

// Status is where a projection stands.
type Status struct {
	Name     string              `json:"name"`
	Position eventstore.Position `json:"position"`
	Lag      eventstore.Position `json:"lag"` // events behind the head
	State    string              `json:"state"`
	Error    string              `json:"error,omitempty"`
}

// The states of a projection. A paused one keeps its place until what stopped it is mended; it never skips an event.
const (
	Following = "following"
	Paused    = "paused"
)

// Status tells where every projection stands against the head of the log, in the order of All.
func (l *Live) Status(head eventstore.Position) []Status {
	list := make([]Status, 0, len(l.order))
	for _, name := range l.order {
		f := l.followers[name].Status()
		s := Status{Name: name, Position: f.Position, Lag: max(0, head-f.Position), State: Following}
		if f.Err != nil {
			s.State, s.Error = Paused, f.Err.Error()
		}
		list = append(list, s)
	}
	return list
}

package postgres

import (
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// A batch ends at whichever of these comes first. It keeps a flood from building a statement that takes seconds, and
// so from delaying everybody behind it.
const (
	maxBatchAppends = 1000
	maxBatchEvents  = 10_000
	maxBatchBytes   = 8 << 20
)

// batch is the group of appends that one statement commits. Each stream stands in it at most once, so that every
// append is judged by the version that the one before it left.
type batch struct {
	requests []*request
	streams  map[uuid.UUID]bool
	events   int
	bytes    int
}

func newBatch() *batch { return &batch{streams: map[uuid.UUID]bool{}} }

func (b *batch) full() bool {
	return len(b.requests) >= maxBatchAppends || b.events >= maxBatchEvents || b.bytes >= maxBatchBytes
}

// touches tells whether one of the request's streams is in the batch already.
func (b *batch) touches(r *request) bool {
	for _, w := range r.writes {
		if b.streams[w.StreamID] {
			return true
		}
	}
	return false
}

// block keeps later requests for the same streams out of the batch, so that a deferred one stays ahead of them.
func (b *batch) block(r *request) {
	for _, w := range r.writes {
		b.streams[w.StreamID] = true
	}
}

func (b *batch) add(r *request) {
	b.requests = append(b.requests, r)
	b.block(r)
	for _, w := range r.writes {
		b.events += len(w.Events)
		for _, e := range w.Events {
			b.bytes += len(e.Data)
		}
	}
}

// answer gives every request of the batch the same answer.
func (b *batch) answer(position eventstore.Position, err error) {
	for _, r := range b.requests {
		r.answer(position, err)
	}
}

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

// batch is the group of appends that one statement commits. Each stream is written at most once in it, and is no guard then,
// so that every append is judged by the version that the one before it left.
type batch struct {
	requests []*request
	streams  map[uuid.UUID]use
	events   int
	bytes    int
}

// use is what a batch does with a stream.
type use int

const (
	guarding use = iota + 1
	writing
)

func useOf(w eventstore.Write) use {
	if len(w.Events) == 0 {
		return guarding
	}
	return writing
}

func newBatch() *batch { return &batch{streams: map[uuid.UUID]use{}} }

func (b *batch) full() bool {
	return len(b.requests) >= maxBatchAppends || b.events >= maxBatchEvents || b.bytes >= maxBatchBytes
}

// touches tells whether one of the request's streams is in the batch already. Any number of guards may be about one stream.
func (b *batch) touches(r *request) bool {
	for _, w := range r.writes {
		if before := b.streams[w.StreamID]; before != 0 && max(before, useOf(w)) == writing {
			return true
		}
	}
	return false
}

// block keeps later requests for the same streams out of the batch, so that a deferred one stays ahead of them.
func (b *batch) block(r *request) {
	for _, w := range r.writes {
		b.streams[w.StreamID] = max(b.streams[w.StreamID], useOf(w))
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

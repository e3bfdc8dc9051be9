package postgres

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/eventstore"
)

// Every append is judged by the version that the one before it left, so a batch writes a stream at most once and not beside
// its guards, and what writes a stream keeps its place among all that is about it.
func TestABatchHasAStreamOnceAndAppendsToAStreamKeepTheirOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		streams := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
		w := &writer{queue: make(chan *request, queueLength), stopping: make(chan struct{})}
		var asked, batched []*request
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				r := arbitraryRequest(t, streams)
				asked = append(asked, r)
				w.queue <- r
			},
			"collect": func(t *rapid.T) {
				if len(batched) == len(asked) {
					t.Skip("there is nothing to collect")
				}
				batched = append(batched, requireDistinct(t, w.collect())...)
			},
		})
		for len(batched) < len(asked) {
			batched = append(batched, requireDistinct(t, w.collect())...)
		}
		for _, s := range streams {
			requireOrder(t, asked, batched, s)
		}
	})
}

func arbitraryRequest(t *rapid.T, streams []uuid.UUID) *request {
	r := &request{ctx: context.Background(), done: make(chan result, 1)}
	for _, s := range rapid.SliceOfNDistinct(rapid.SampledFrom(streams), 1, 3, rapid.ID).Draw(t, "streams") {
		w := eventstore.Write{StreamID: s}
		if len(r.writes) == 0 || rapid.Bool().Draw(t, "writes") {
			w.Events = []eventstore.NewEvent{{ID: uuid.New()}}
		}
		r.writes = append(r.writes, w)
	}
	return r
}

func requireDistinct(t *rapid.T, b *batch) []*request {
	uses, writers := map[uuid.UUID]int{}, map[uuid.UUID]int{}
	for _, r := range b.requests {
		for _, w := range r.writes {
			uses[w.StreamID]++
			writers[w.StreamID] += len(w.Events)
		}
	}
	for stream, n := range writers {
		require.True(t, n == 0 || uses[stream] == 1, "a stream is written in a batch that has it twice")
	}
	require.NotEmpty(t, b.requests)
	return b.requests
}

// requireOrder compares the order of the requests for a stream, but for guards among each other.
func requireOrder(t *rapid.T, asked, batched []*request, stream uuid.UUID) {
	use := func(r *request) (u use) {
		for _, w := range r.writes {
			if w.StreamID == stream {
				u = useOf(w)
			}
		}
		return u
	}
	for i, earlier := range asked {
		for _, later := range asked[i+1:] {
			if use(earlier) == 0 || use(later) == 0 || max(use(earlier), use(later)) == guarding {
				continue
			}
			require.Less(t, slices.Index(batched, earlier), slices.Index(batched, later), "the order of the appends to a stream")
		}
	}
}

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

// Every append is judged by the version that the one before it left, so a batch has a stream at most once, and appends to
// one stream are committed in the order in which they came.
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
			require.Equal(t, touching(asked, s), touching(batched, s), "the order of the appends to a stream")
		}
	})
}

func arbitraryRequest(t *rapid.T, streams []uuid.UUID) *request {
	r := &request{ctx: context.Background(), done: make(chan result, 1)}
	for _, s := range rapid.SliceOfNDistinct(rapid.SampledFrom(streams), 1, 3, rapid.ID).Draw(t, "streams") {
		r.writes = append(r.writes, eventstore.Write{StreamID: s, Events: []eventstore.NewEvent{{ID: uuid.New()}}})
	}
	return r
}

func requireDistinct(t *rapid.T, b *batch) []*request {
	seen := map[uuid.UUID]bool{}
	for _, r := range b.requests {
		for _, w := range r.writes {
			require.False(t, seen[w.StreamID], "a stream stands twice in a batch")
			seen[w.StreamID] = true
		}
	}
	require.NotEmpty(t, b.requests)
	return b.requests
}

// touching returns the requests for a stream.
func touching(requests []*request, stream uuid.UUID) []*request {
	return slices.DeleteFunc(slices.Clone(requests), func(r *request) bool {
		return !slices.ContainsFunc(r.writes, func(w eventstore.Write) bool { return w.StreamID == stream })
	})
}

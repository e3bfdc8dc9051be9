package postgres_test

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Whatever is done to the log in Postgres has the same results as in memory: positions, conflicts, and what is read.
func TestTheLogInPostgresBehavesLikeTheOneInMemory(t *testing.T) {
	t.Parallel()
	log := openStore(t, pgtest.Database(t))
	rapid.Check(t, func(t *rapid.T) {
		c := newComparison(t, log)
		t.Repeat(map[string]func(*rapid.T){
			"append":                         c.append,
			"append a malformed one":         c.appendMalformed,
			"append to many streams at once": c.appendAtOnce,
			"read a stream":                  c.readStream,
			"read all":                       c.readAll,
			"":                               c.head,
		})
	})
}

// comparison does everything to both logs. The one in Postgres holds what earlier rounds wrote, up to base.
type comparison struct {
	log     *postgres.Store
	model   *memory.Store
	base    eventstore.Position
	streams []uuid.UUID
}

func newComparison(t *rapid.T, log *postgres.Store) *comparison {
	base, err := log.Head(context.Background())
	require.NoError(t, err)
	return &comparison{log, memory.New(), base, []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}}
}

func (c *comparison) head(t *rapid.T) {
	head, err := c.log.Head(context.Background())
	require.NoError(t, err)
	modelled, _ := c.model.Head(context.Background())
	require.Equal(t, modelled, head-c.base)
}

func (c *comparison) append(t *rapid.T) {
	var writes []eventstore.Write
	for _, stream := range rapid.SliceOfNDistinct(rapid.SampledFrom(c.streams), 1, len(c.streams), rapid.ID).Draw(t, "streams") {
		writes = append(writes, c.write(t, stream))
	}
	if guarded := rapid.SampledFrom(append(c.streams, uuid.New())).Draw(t, "guarded"); rapid.Bool().Draw(t, "with a guard") {
		writes = append(writes, eventstore.Write{StreamID: guarded, Expected: eventstore.Exactly(rapid.IntRange(0, 4).Draw(t, "guarded version"))})
	}
	position, err := c.log.Append(context.Background(), writes...)
	c.requireSame(t, writes, position, err)
}

// requireSame appends the same to the model.
func (c *comparison) requireSame(t *rapid.T, writes []eventstore.Write, position eventstore.Position, err error) {
	modelled, modelErr := c.model.Append(context.Background(), writes...)
	require.Equal(t, modelErr, err)
	if err == nil {
		require.Equal(t, modelled, position-c.base)
	}
}

func (c *comparison) appendMalformed(t *rapid.T) {
	good := c.write(t, c.streams[0])
	without := func(part func(*eventstore.NewEvent)) eventstore.Write {
		event := good.Events[0]
		part(&event)
		return eventstore.Write{StreamID: good.StreamID, Expected: good.Expected, Events: []eventstore.NewEvent{event}}
	}
	writes := rapid.SampledFrom([][]eventstore.Write{
		{}, {good, good}, {{StreamID: good.StreamID, Expected: good.Expected}}, {{StreamID: good.StreamID, Expected: -2, Events: good.Events}},
		{without(func(e *eventstore.NewEvent) { e.Data = nil })},
		{without(func(e *eventstore.NewEvent) { e.Commitment = eventstore.Commitment{} })},
	}).Draw(t, "malformed")
	_, err := c.log.Append(context.Background(), writes...)
	_, modelErr := c.model.Append(context.Background(), writes...)
	require.Error(t, err)
	require.Equal(t, modelErr, err)
}

// appendAtOnce makes appends that share a batch, each to another stream. What is accepted stands in some order; in that
// order it goes to the model.
func (c *comparison) appendAtOnce(t *rapid.T) {
	type attempt struct {
		write    eventstore.Write
		position eventstore.Position
		err      error
	}
	var attempts []*attempt
	for _, stream := range append([]uuid.UUID{uuid.New(), uuid.New()}, c.streams...) {
		attempts = append(attempts, &attempt{write: c.write(t, stream)})
	}
	var all sync.WaitGroup
	for _, a := range attempts {
		all.Go(func() { a.position, a.err = c.log.Append(context.Background(), a.write) })
	}
	all.Wait()
	slices.SortFunc(attempts, func(a, b *attempt) int { return cmp.Compare(a.position, b.position) })
	for _, a := range attempts {
		c.requireSame(t, []eventstore.Write{a.write}, a.position, a.err)
	}
}

func (c *comparison) readStream(t *rapid.T) {
	stream := rapid.SampledFrom(c.streams).Draw(t, "stream")
	after := rapid.IntRange(0, 8).Draw(t, "after")
	seen := c.collect(t, c.log.ReadStream(context.Background(), stream, after))
	require.Equal(t, collectModel(t, c.model.ReadStream(context.Background(), stream, after)), seen)
}

func (c *comparison) readAll(t *rapid.T) {
	after := eventstore.Position(rapid.IntRange(0, 20).Draw(t, "after"))
	seen := c.collect(t, c.log.ReadAll(context.Background(), c.base+after))
	require.Equal(t, collectModel(t, c.model.ReadAll(context.Background(), after)), seen)
}

// collect returns events as the model has them. Their times are the clock's and can only be checked to never go back.
func (c *comparison) collect(t *rapid.T, events iter.Seq2[eventstore.Event, error]) []eventstore.Event {
	var last time.Time
	list := collectModel(t, func(yield func(eventstore.Event, error) bool) {
		for e, err := range events {
			require.False(t, e.RecordedAt.Before(last), "time went backwards at position %d", e.Position)
			last = e.RecordedAt
			e.Position -= c.base
			if !yield(e, err) {
				return
			}
		}
	})
	return list
}

func collectModel(t *rapid.T, events iter.Seq2[eventstore.Event, error]) []eventstore.Event {
	var list []eventstore.Event
	for e, err := range events {
		require.NoError(t, err)
		e.RecordedAt = time.Time{}
		list = append(list, e)
	}
	return list
}

func (c *comparison) write(t *rapid.T, stream uuid.UUID) eventstore.Write {
	return eventstore.Write{
		StreamID: stream,
		Expected: rapid.OneOf(rapid.Just(eventstore.Any), rapid.Custom(func(t *rapid.T) eventstore.ExpectedVersion {
			return eventstore.Exactly(c.version(stream) + rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "ahead"))
		})).Draw(t, "expected"),
		Events: rapid.SliceOfN(rapid.Custom(arbitraryEvent), 1, 3).Draw(t, "events"),
	}
}

func (c *comparison) version(stream uuid.UUID) int {
	version := 0
	for e := range c.model.ReadStream(context.Background(), stream, 0) {
		version = e.Version
	}
	return version
}

func arbitraryEvent(t *rapid.T) eventstore.NewEvent {
	id := rapid.Custom(func(t *rapid.T) uuid.UUID { return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")) })
	maybeID := rapid.OneOf(rapid.Just(uuid.Nil), id)
	text := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0 })) // Postgres has no NUL in text
	headers := rapid.OneOf(rapid.Just(map[string]string(nil)), rapid.MapOfN(rapid.String(), rapid.String(), 1, 3))
	return eventstore.NewEvent{
		ID: uuid.New(), Type: text.Draw(t, "type"), SchemaVersion: rapid.IntRange(1, 32767).Draw(t, "schema version"),
		Data: rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "data"), Commitment: eventstore.Commit([]byte("a payload")),
		Metadata: eventstore.Metadata{
			AccountID: maybeID.Draw(t, "account"), CorrelationID: maybeID.Draw(t, "correlation"), CausationID: maybeID.Draw(t, "causation"),
			Actor: domain.Actor{
				Kind: domain.ActorKind(text.Draw(t, "actor kind")), ID: maybeID.Draw(t, "actor"), Prefix: text.Draw(t, "actor prefix"),
			},
			Headers: headers.Draw(t, "headers"),
		},
	}
}

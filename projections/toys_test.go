package projections_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore/feed"
	"github.com/voltrun/voltrun/projections"
)

// toys is a projection of the tests' own: log lines say what happens to toys, "make", "paint" and "break" to one by its
// name, "burn" to all of a colour.
func toys() *projections.Projection {
	table := &projections.Table{Name: "toys", Columns: []projections.Column{
		{Name: "name", Type: "text"}, {Name: "colour", Type: "text"}, {Name: "painted", Type: "bigint"},
	}}
	return &projections.Projection{
		Name: "toys", Version: 1, Tables: []*projections.Table{table},
		DDL:     "create table toys (name text not null primary key, colour text not null, painted bigint)",
		Indexes: "create index toys_by_colour on toys (colour)",
		Types:   []string{domain.ExecutionLogLine{}.EventType()},
		Fold:    func(r projections.Recorded, c *projections.Changes) { foldToy(table, r, c) },
		Sweep: func(r projections.Recorded) []projections.Statement {
			if what, colour := order(r); what == "burn" {
				return []projections.Statement{{SQL: "delete from toys where colour = $1", Args: []any{colour}}}
			}
			return nil
		},
	}
}

// order is what an event says: what to do, and the rest.
func order(r projections.Recorded) (what, rest string) {
	line, _ := r.Fact.(domain.ExecutionLogLine)
	what, rest, _ = strings.Cut(line.Text, " ")
	return what, rest
}

func foldToy(table *projections.Table, r projections.Recorded, c *projections.Changes) {
	what, rest := order(r)
	name, colour, _ := strings.Cut(rest, " ")
	switch what {
	case "make":
		c.Insert(table, name, projections.Row{{Column: "colour", Value: colour}})
	case "paint":
		c.Update(table, name, projections.Row{{Column: "colour", Value: colour}, {Column: "painted", Value: r.Position}})
	case "break":
		c.Delete(table, name)
	}
}

// say appends orders, all in one append.
func (f fixture) say(t testing.TB, orders ...string) {
	t.Helper()
	f.append(t, orderFacts(orders...))
}

func orderFacts(orders ...string) []fact {
	var facts []fact
	account := uuid.New()
	for _, o := range orders {
		facts = append(facts, fact{uuid.New(), account, domain.ExecutionLogLine{Stream: domain.Stdout, Text: o}})
	}
	return facts
}

// toys reads the toys that serve, as "name colour".
func (f fixture) toys(t testing.TB) []string {
	t.Helper()
	rows, err := f.store.Pool().Query(f.ctx, "select name || ' ' || colour from toys order by name")
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// server lets another server of that version follow the same log. It ends with the test.
func (f fixture) server(t testing.TB, list ...*projections.Projection) *projections.Live {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	router, err := feed.NewRouter(feed.NewPublisher(f.store), quiet)
	require.NoError(t, err)
	live := projections.Follow(router, feed.New(f.store.Pool(), f.store, quiet), f.codec, list)
	go func() { _ = router.Run(f.ctx) }()
	<-router.Running()
	t.Cleanup(func() { require.NoError(t, router.Close()) })
	return live
}

// The writers and sweeps are judged by a model in memory: live pages of every size, and rebuilds in pages of every size.
func TestWhateverIsFoldedTheTablesAreWhatAModelSays(t *testing.T) {
	t.Parallel()
	f := newFixture(t, toys())
	random := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	for range 60 {
		var orders []string
		for range 1 + random.IntN(20) {
			orders = append(orders, randomOrder(random, model))
		}
		f.say(t, orders...)
	}
	f.caughtUp(t)
	want := []string{}
	for name, colour := range model {
		want = append(want, name+" "+colour)
	}
	require.ElementsMatch(t, want, f.toys(t))
	for _, size := range []projections.Position{1, 3, 10, 100, 20_000} {
		v, err := f.rebuilder.InPagesOf(size).Verify(f.ctx, "toys", nil)
		require.NoError(t, err)
		require.True(t, v.Equal(), "pages of %d events: %v", size, v.Tables)
	}
}

// randomOrder changes the model as the projection should change its table.
func randomOrder(random *rand.Rand, model map[string]string) string {
	name, colour := fmt.Sprint("toy", random.IntN(8)), fmt.Sprint("colour", random.IntN(4))
	_, exists := model[name]
	switch n := random.IntN(10); {
	case n == 0:
		for other, c := range model {
			if c == colour {
				delete(model, other)
			}
		}
		return "burn " + colour
	case n < 3:
		delete(model, name)
		return "break " + name
	case exists:
		model[name] = colour
		return "paint " + name + " " + colour
	case n < 5:
		return "paint " + name + " " + colour // of a toy that is not there
	default:
		model[name] = colour
		return "make " + name + " " + colour
	}
}

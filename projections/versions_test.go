package projections_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// loudToys is the next version of toys, over the same table: it shouts their colours.
func loudToys() *projections.Projection {
	p := toys()
	p.Version = 2
	table := p.Tables[0]
	p.Fold = func(r projections.Recorded, c *projections.Changes) {
		line, _ := r.Fact.(domain.ExecutionLogLine)
		if what, rest, _ := strings.Cut(line.Text, " "); what == "make" {
			name, colour, _ := strings.Cut(rest, " ")
			c.Insert(table, name, projections.Row{{Column: "colour", Value: strings.ToUpper(colour)}})
		}
	}
	return p
}

// weighedToys is the next version of toys, with another column in another table beside the old one.
func weighedToys() *projections.Projection {
	p := loudToys()
	p.DDL = "create table toys (name text not null primary key, colour text not null, weight integer not null); create table boxes (name text primary key)"
	p.Indexes = "create index toys_by_weight on toys (weight)"
	table := &projections.Table{Name: "toys", Columns: []projections.Column{
		{Name: "name", Type: "text"}, {Name: "colour", Type: "text"}, {Name: "weight", Type: "integer"},
	}}
	p.Tables = []*projections.Table{table, {Name: "boxes", Columns: []projections.Column{{Name: "name", Type: "text"}}}}
	p.Fold = func(r projections.Recorded, c *projections.Changes) {
		if what, rest := order(r); what == "make" {
			name, colour, _ := strings.Cut(rest, " ")
			c.Insert(table, name, projections.Row{{Column: "colour", Value: colour}, {Column: "weight", Value: len(name)}})
		}
	}
	return p
}

// as returns the fixture as a server of another version sees it; live is not running yet.
func (f fixture) as(list ...*projections.Projection) fixture {
	f.rebuilder = projectionstest.Rebuilder(f.store, f.codec, list)
	f.live = nil
	return f
}

func TestATableThatFitsServesWhileItsNewVersionIsBuilt(t *testing.T) {
	t.Parallel()
	old := newFixture(t, toys())
	old.say(t, "make car red")
	old.caughtUp(t)

	f := old.as(loudToys())
	due, err := f.rebuilder.Setup(f.ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"toys"}, due)
	require.Equal(t, []string{"car red"}, f.toys(t), "what the old version has made serves")
	f.live = f.server(t, loudToys())
	f.say(t, "make bus blue")
	f.caughtUp(t)
	require.Equal(t, []string{"bus BLUE", "car red"}, f.toys(t), "and is followed by the new one")

	due, err = f.rebuilder.Setup(f.ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"toys"}, due, "a start after a crash knows that it is still to be done")
	require.NoError(t, f.rebuilder.Rebuild(f.ctx, "toys", nil))
	require.Equal(t, []string{"bus BLUE", "car RED"}, f.toys(t))
	due, err = f.rebuilder.Setup(f.ctx)
	require.NoError(t, err)
	require.Empty(t, due)
}

func TestATableThatLacksAColumnIsBuiltBeforeItServes(t *testing.T) {
	t.Parallel()
	old := newFixture(t, toys())
	old.say(t, "make car red", "make bus blue")
	old.caughtUp(t)
	reader, err := old.store.Pool().Begin(old.ctx) // keeps the swap waiting, so that there is time to look
	require.NoError(t, err)
	_, err = reader.Exec(old.ctx, "select from toys limit 1")
	require.NoError(t, err)

	f := old.as(weighedToys())
	ended := make(chan error, 1)
	go func() {
		due, err := f.rebuilder.Setup(f.ctx)
		require.Empty(t, due)
		ended <- err
	}()
	f.awaitLock(t, "voltrun rebuild toys")
	old.say(t, "make van green")
	old.caughtUp(t)
	require.Equal(t, []string{"bus blue", "car red", "van green"}, old.toys(t), "the old version serves on, and follows")
	require.NoError(t, reader.Rollback(f.ctx))
	require.NoError(t, <-ended)

	var weight int
	require.NoError(t, f.store.Pool().QueryRow(f.ctx, "select sum(weight) from toys").Scan(&weight))
	require.Equal(t, 9, weight)
	old.say(t, "make boat white")
	status := awaitPaused(t, old.live, "toys", f.head(t))
	require.Contains(t, status.Error, "version 2 of its projection keeps it, and this VoltRun has version 1")
	f.live = f.server(t, weighedToys())
	f.caughtUp(t)
	require.Equal(t, []string{"boat white", "bus blue", "car red", "van green"}, f.toys(t))
	f.requireNoLeftovers(t)
}

func TestAProcessOfAnotherVersionDoesNotWrite(t *testing.T) {
	t.Parallel()
	old := newFixture(t, append(projections.All(), toys())...)
	old.say(t, "make car red")
	old.caughtUp(t)
	f := old.as(append(projections.All(), loudToys())...)
	_, err := f.rebuilder.Setup(f.ctx) // another server takes the table over, and does not follow the log yet
	require.NoError(t, err)

	for _, o := range []string{"make bus blue", "burn red"} {
		old.say(t, o)
		status := awaitPaused(t, old.live, "toys", f.head(t))
		require.Contains(t, status.Error, "is of another version")
		require.Equal(t, []string{"car red"}, f.toys(t))
		require.True(t, old.live.Resume("toys"))
	}
	awaitPaused(t, old.live, "toys", f.head(t))
	require.NoError(t, old.live.Wait(f.ctx, "keys", f.head(t)), "its other projections go on")
	require.ErrorContains(t, old.rebuilder.Rebuild(f.ctx, "toys", nil), "is of another version")
	_, err = old.rebuilder.Verify(f.ctx, "toys", nil)
	require.ErrorContains(t, err, "is of another version")
	f.requireNoLeftovers(t)

	f.live = f.server(t, loudToys())
	f.caughtUp(t)
	require.Equal(t, []string{"bus BLUE"}, f.toys(t))
}

// A rebuild that began before another version took the tables over must not put the old version's in their place.
func TestARebuildThatWasOvertakenByAnotherVersionDoesNotSwap(t *testing.T) {
	t.Parallel()
	old := newFixture(t, toys())
	old.say(t, "make car red")
	old.caughtUp(t)
	f := old.as(loudToys())
	taken := false
	err := old.rebuilder.Rebuild(f.ctx, "toys", func(p projections.Progress) {
		if p.State == projections.RebuildIndexing && !taken {
			taken = true
			_, err := f.rebuilder.Setup(f.ctx)
			require.NoError(t, err)
		}
	})
	require.ErrorContains(t, err, "is of another version")
	due, err := f.rebuilder.Setup(f.ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"toys"}, due)
	f.requireNoLeftovers(t)
}

func TestANewProjectionOfAnOldLogIsBuiltBeforeItServes(t *testing.T) {
	t.Parallel()
	old := newFixture(t)
	old.say(t, "make car red", "make bus blue")
	f := old.as(toys())
	due, err := f.rebuilder.Setup(f.ctx)
	require.NoError(t, err)
	require.Empty(t, due)
	require.Equal(t, []string{"bus blue", "car red"}, f.toys(t))
	f.live = f.server(t, toys())
	f.say(t, "make van green")
	f.caughtUp(t)
	require.Equal(t, []string{"bus blue", "car red", "van green"}, f.toys(t))
}

func TestANewVersionThatCannotBeBuiltIsPausedAndTheOldTableStays(t *testing.T) {
	t.Parallel()
	old := newFixture(t, append(projections.All(), toys())...)
	old.say(t, "make car red")
	old.caughtUp(t)
	broken := weighedToys()
	broken.Fold = func(projections.Recorded, *projections.Changes) { panic("cannot fold this") }
	list := append(projections.All(), broken)
	f := old.as(list...)
	due, err := f.rebuilder.Setup(f.ctx)
	require.NoError(t, err, "the others must start")
	require.Empty(t, due)
	require.Equal(t, []string{"car red"}, f.toys(t))
	old.say(t, "make bus blue")
	old.caughtUp(t)
	require.Equal(t, []string{"bus blue", "car red"}, f.toys(t))
	f.requireNoLeftovers(t)
}

func TestServersOfANewVersionThatStartAtOnceTakeTurns(t *testing.T) {
	t.Parallel()
	old := newFixture(t, toys())
	old.say(t, "make car red")
	old.caughtUp(t)
	ended := make(chan error, 3)
	for range cap(ended) {
		go func() {
			_, err := old.as(weighedToys()).rebuilder.Setup(old.ctx)
			ended <- err
		}()
	}
	for range cap(ended) {
		require.NoError(t, receiveWithin(t, ended, 30*time.Second))
	}
	var weight int
	require.NoError(t, old.store.Pool().QueryRow(old.ctx, "select sum(weight) from toys").Scan(&weight))
	old.requireNoLeftovers(t)
}

func receiveWithin[T any](t testing.TB, from <-chan T, within time.Duration) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(within):
		require.Fail(t, "nothing came")
	}
	return value
}

// What only an older version had must not stay behind: it holds what an account believes to be erased.
func TestTablesThatANewVersionNoLongerHasAreDropped(t *testing.T) {
	t.Parallel()
	f := newFixture(t).as(weighedToys())
	_, err := f.rebuilder.Setup(f.ctx)
	require.NoError(t, err)
	f.say(t, "make car red")
	next := loudToys()
	next.Version = 3
	f = f.as(next)
	_, err = f.rebuilder.Setup(f.ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"car RED"}, f.toys(t))
	var boxes bool
	require.NoError(t, f.store.Pool().QueryRow(f.ctx, "select to_regclass('boxes') is not null").Scan(&boxes))
	require.False(t, boxes)
}

package projections_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// fragile is toys with a fold that cannot make a toy called "bad" until it is mended.
func fragile(mended *atomic.Bool) *projections.Projection {
	p := toys()
	fold := p.Fold
	p.Fold = func(r projections.Recorded, c *projections.Changes) {
		if _, rest := order(r); rest == "bad red" && !mended.Load() {
			panic("this toy cannot be made")
		}
		fold(r, c)
	}
	return p
}

func (f fixture) head(t testing.TB) projections.Position {
	t.Helper()
	head, err := f.store.Head(f.ctx)
	require.NoError(t, err)
	return head
}

// awaitPaused waits until a projection is paused, and returns how it stands.
func awaitPaused(t testing.TB, live *projections.Live, name string, head projections.Position) (status projections.Status) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, s := range live.Status(head) {
			if s.Name == name {
				status = s
			}
		}
		return status.State == projections.Paused
	}, 20*time.Second, 5*time.Millisecond)
	return status
}

func TestAProjectionThatFailsPausesOthersGoOnAndNothingIsSkipped(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	f := newFixture(t, append(projections.All(), fragile(&mended))...)
	f.say(t, "make good green")
	f.caughtUp(t)
	at := f.head(t)
	f.say(t, "make bad red", "make late blue")
	f.function(t, newID(), "hello")
	head := f.head(t)

	status := awaitPaused(t, f.live, "toys", head)
	require.Equal(t, at, status.Position)
	require.Equal(t, head-at, status.Lag)
	require.Contains(t, status.Error, "this toy cannot be made")
	require.WithinDuration(t, time.Now(), *status.PausedSince, time.Minute)
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Second)
	defer cancel()
	for _, p := range projections.All() {
		require.NoError(t, f.live.Wait(ctx, p.Name, head), "%s goes on", p.Name)
	}
	require.Equal(t, []string{"good green"}, f.toys(t))

	require.True(t, f.live.Resume("toys"))
	status = awaitPaused(t, f.live, "toys", head)
	require.Equal(t, at, status.Position, "resumed too early, it has not moved")
	require.Equal(t, []string{"good green"}, f.toys(t))

	mended.Store(true)
	require.True(t, f.live.Resume("toys"))
	f.caughtUp(t)
	require.Equal(t, []string{"bad red", "good green", "late blue"}, f.toys(t), "nothing is skipped")
	require.False(t, f.live.Resume("nothing"))
}

func TestARebuildThatFailsNamesTheEventAndLeavesTheTablesThatServe(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	mended.Store(true)
	f := newFixture(t, fragile(&mended))
	f.say(t, "make good green", "make bad red", "make late blue")
	f.caughtUp(t)
	mended.Store(false)
	var last projections.Progress
	err := f.rebuilder.Rebuild(f.ctx, "toys", func(p projections.Progress) { last = p })
	require.ErrorContains(t, err, "event 2 (execution.log_line): panic: this toy cannot be made")
	require.Equal(t, projections.RebuildFailed, last.State)
	require.Contains(t, last.Error, "event 2")
	require.Equal(t, []string{"bad red", "good green", "late blue"}, f.toys(t))
	f.requireNoLeftovers(t)
}

func TestARebuildMendsAProjectionWhoseTableWasDamaged(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	rebuilds := projections.NewRebuilds(f.rebuilder, f.live)
	t.Cleanup(rebuilds.Stop)
	owner, _ := f.aLittleOfEverything(t)
	f.exec(t, "alter table functions rename column name to label")
	function := f.function(t, owner, "new")
	awaitPaused(t, f.live, "functions", f.head(t))

	_, err := rebuilds.Start("functions")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		progress, err := rebuilds.Progress("functions")
		return err == nil && progress.Ended()
	}, 20*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		return f.live.Status(f.head(t))[1].State == projections.Following
	}, 20*time.Second, 5*time.Millisecond, "it goes on when its tables are whole")
	f.caughtUp(t)
	got, err := f.Functions.Get(f.ctx, owner, function)
	require.NoError(t, err)
	require.Equal(t, "new", got.Name)
	projectionstest.RequireEqualToRebuilt(t, f.store, f.codec)
}

func TestBackgroundRebuildsAreWatchedAndCancelled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	rebuilds := projections.NewRebuilds(f.rebuilder, f.live)
	f.aLittleOfEverything(t)
	_, err := rebuilds.Progress("keys")
	require.True(t, domain.IsCode(err, domain.NotFound))
	_, err = rebuilds.Cancel(f.ctx, "keys")
	require.True(t, domain.IsCode(err, domain.NotFound))
	_, err = rebuilds.Start("nothing")
	require.True(t, domain.IsCode(err, domain.NotFound))

	reader, err := f.store.Pool().Begin(f.ctx)
	require.NoError(t, err)
	_, err = reader.Exec(f.ctx, "select from keys limit 1")
	require.NoError(t, err)
	progress, err := rebuilds.Start("keys")
	require.NoError(t, err)
	require.Equal(t, projections.RebuildReading, progress.State)
	f.awaitLock(t, "voltrun rebuild keys")
	_, err = rebuilds.Start("keys")
	require.True(t, domain.IsCode(err, domain.Conflict))
	progress, err = rebuilds.Progress("keys")
	require.NoError(t, err)
	require.Equal(t, projections.RebuildSwapping, progress.State)
	require.Equal(t, progress.Total, progress.Done)
	progress, err = rebuilds.Cancel(f.ctx, "keys")
	require.NoError(t, err)
	require.Equal(t, projections.RebuildCancelled, progress.State)
	_, err = rebuilds.Cancel(f.ctx, "keys")
	require.True(t, domain.IsCode(err, domain.Conflict))
	f.requireNoLeftovers(t)

	_, err = rebuilds.Start("keys")
	require.NoError(t, err)
	f.awaitLock(t, "voltrun rebuild keys")
	rebuilds.Stop()
	progress, err = rebuilds.Progress("keys")
	require.NoError(t, err)
	require.Equal(t, projections.RebuildCancelled, progress.State, "the end of the server cancels it")
	require.NoError(t, reader.Rollback(f.ctx))
	f.requireNoLeftovers(t)
}

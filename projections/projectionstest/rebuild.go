// Package projectionstest checks that read models are what the log says.
package projectionstest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/projections"
)

// catchUpWithin bounds how long projections may take to reach the head of a test's log.
const catchUpWithin = time.Minute

// Rebuilder makes a rebuilder over a test's log.
func Rebuilder(store *postgres.Store, codec *eventstore.Codec, list []*projections.Projection) *projections.Rebuilder {
	return projections.NewRebuilder(store.Pool(), codec, list, slog.New(slog.DiscardHandler))
}

// Follow sets projections up and lets them follow the log until the test ends, as a server does.
func Follow(t testing.TB, store *postgres.Store, codec *eventstore.Codec, list []*projections.Projection) *projections.Live {
	t.Helper()
	ctx := context.Background()
	quiet := slog.New(slog.DiscardHandler)
	_, err := Rebuilder(store, codec, list).Setup(ctx)
	require.NoError(t, err)
	router, err := feed.NewRouter(feed.NewPublisher(store), quiet)
	require.NoError(t, err)
	live := projections.Follow(router, feed.New(store.Pool(), store, quiet), codec, list)
	go func() { _ = router.Run(ctx) }()
	<-router.Running()
	t.Cleanup(func() { require.NoError(t, router.Close()) })
	return live
}

// CatchUp waits until every projection shows the whole log.
func CatchUp(t testing.TB, store *postgres.Store, live *projections.Live) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), catchUpWithin)
	defer cancel()
	head, err := store.Head(ctx)
	require.NoError(t, err)
	for _, s := range live.Status(head) {
		require.NoError(t, live.Wait(ctx, s.Name, head), s.Name)
	}
}

// RequireEqualToRebuilt builds every read model anew from position 1, beside the one that serves, and requires that each
// table comes out as it is.
func RequireEqualToRebuilt(t testing.TB, store *postgres.Store, codec *eventstore.Codec) {
	t.Helper()
	rebuilder := Rebuilder(store, codec, projections.All())
	for _, name := range rebuilder.Names() {
		v, err := rebuilder.Verify(context.Background(), name, nil)
		require.NoError(t, err, name)
		for _, table := range v.Tables {
			require.Equal(t, table.FromLog, table.Live, "the table %s at position %d", table.Table, v.Position)
		}
	}
}

// Package projectionstest checks that read models are what the log says.
package projectionstest

import (
	"context"
	"fmt"
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

// Follow sets projections up and lets them follow the log until the test ends, as a server does.
func Follow(t testing.TB, store *postgres.Store, codec *eventstore.Codec, list []*projections.Projection) *projections.Live {
	t.Helper()
	ctx := context.Background()
	quiet := slog.New(slog.DiscardHandler)
	_, err := projections.Setup(ctx, store.Pool(), list)
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

// RequireEqualToRebuilt builds every read model anew from position 1 and requires that each table comes out as it was.
// Whoever follows the log already goes on: it shares the checkpoints.
func RequireEqualToRebuilt(t testing.TB, store *postgres.Store, codec *eventstore.Codec) {
	t.Helper()
	before := digests(t, store)
	var raised []*projections.Projection
	for _, p := range projections.All() {
		next := *p
		next.Version++
		raised = append(raised, &next)
	}
	anew, err := projections.Setup(context.Background(), store.Pool(), raised)
	require.NoError(t, err)
	require.Len(t, anew, len(raised))
	CatchUp(t, store, Follow(t, store, codec, raised))
	require.Equal(t, before, digests(t, store))
}

// digests hashes every read table's rows in the order of their keys, and counts them.
func digests(t testing.TB, store *postgres.Store) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, p := range projections.All() {
		for _, table := range p.Tables {
			var sum string
			var rows int
			query := fmt.Sprintf("select coalesce(md5(string_agg(t::text, '|' order by t.%s)), ''), count(*) from %s t", table.Columns[0].Name, table.Name)
			require.NoError(t, store.Pool().QueryRow(context.Background(), query).Scan(&sum, &rows))
			sums[table.Name] = fmt.Sprintf("%d rows %s", rows, sum)
		}
	}
	return sums
}

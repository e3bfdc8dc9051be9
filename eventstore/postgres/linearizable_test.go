package postgres_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

func TestTheLogIsLinearizableOverSeveralProcesses(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	load := storetest.Load{Clients: 8, Calls: 120, Streams: 4}
	verdict := load.RequireLinearizable(t, openStore(t, dsn), openStore(t, dsn))
	require.Greater(t, verdict.Accepted, 100)
	require.Greater(t, verdict.Conflicts, 50)
	require.Greater(t, verdict.Reads, 150)
}

// Clients give up at random, and the writers' connections are killed at random, so that neither the clients nor the
// writers know what became of their appends.
func TestTheLogIsLinearizableWhileItsWritersLoseTheirConnections(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	appended := make(chan struct{}, 1)
	one, other := reporting{openStore(t, dsn), appended}, reporting{openStore(t, dsn), appended}
	stop := killWriters(t, dsn, appended)
	load := storetest.Load{Clients: 8, Calls: 120, Streams: 4, Patience: 4 * time.Millisecond}
	verdict := load.RequireLinearizable(t, one, other)
	kills := stop()
	t.Logf("%+v, %d connections killed", verdict, kills)
	require.Greater(t, kills, 10)
	require.Greater(t, verdict.Unknown, 10)
	require.Greater(t, verdict.Accepted, 50)
}

// reporting tells when an append was answered.
type reporting struct {
	*postgres.Store
	appended chan<- struct{}
}

func (s reporting) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	position, err := s.Store.Append(ctx, writes...)
	if err == nil {
		select {
		case s.appended <- struct{}{}:
		default: // it was told already
		}
	}
	return position, err
}

// killWriters ends the connections of the writers to this database again and again, whenever a few appends have got
// through: a slow machine makes progress, too. stop returns how many it has ended.
func killWriters(t *testing.T, dsn string, appended <-chan struct{}) (stop func() int) {
	conn := connect(t, dsn)
	stopping := make(chan struct{})
	kills := 0
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			for range 1 + rand.IntN(8) {
				select {
				case <-appended:
				case <-stopping:
					return
				}
			}
			var n int
			err := conn.QueryRow(context.Background(), `select count(pg_terminate_backend(pid)) from pg_stat_activity
				where datname = current_database() and application_name like 'voltrun writer %'`).Scan(&n)
			if err != nil {
				t.Errorf("kill the writers' connections: %v", err)
				return
			}
			kills += n
		}
	})
	return func() int {
		close(stopping)
		killer.Wait()
		return kills
	}
}

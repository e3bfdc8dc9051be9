package postgres_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/pgtest"
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
	one, other := openStore(t, dsn), openStore(t, dsn)
	stop := killWriters(t, dsn)
	load := storetest.Load{Clients: 8, Calls: 150, Streams: 4, Patience: 4 * time.Millisecond}
	verdict := load.RequireLinearizable(t, one, other)
	kills := stop()
	t.Logf("%+v, %d connections killed", verdict, kills)
	require.Greater(t, kills, 10)
	require.Greater(t, verdict.Unknown, 10)
	require.Greater(t, verdict.Accepted, 100)
}

// killWriters ends the connections of writers to this database again and again. stop returns how many it has ended.
func killWriters(t *testing.T, dsn string) (stop func() int) {
	conn := connect(t, dsn)
	killing, cancel := context.WithCancel(context.Background())
	kills := 0
	var killer sync.WaitGroup
	killer.Go(func() {
		for killing.Err() == nil {
			var n int
			err := conn.QueryRow(context.Background(), `select count(pg_terminate_backend(pid)) from pg_stat_activity
				where datname = current_database() and application_name like 'voltrun writer %'`).Scan(&n)
			if err != nil {
				t.Errorf("kill the writers' connections: %v", err)
			}
			kills += n
			select {
			case <-killing.Done():
			case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
			}
		}
	})
	return func() int {
		cancel()
		killer.Wait()
		return kills
	}
}

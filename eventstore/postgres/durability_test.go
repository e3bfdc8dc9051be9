package postgres_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// A server whose default is to acknowledge what it has not written yet loses up to thirty seconds with these settings.
func TestWhatWasAcknowledgedSurvivesACrashWhateverTheServersDefaultIs(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	admin := connect(t, server.DSN())
	for _, statement := range []string{
		"create database crashing", "alter system set synchronous_commit = off", "alter system set wal_writer_delay = 10000",
		"select pg_reload_conf()",
	} {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	t.Cleanup(func() { resetSettings(t, server.DSN()) })

	dsn := server.DSN() + " dbname=crashing"
	s := openStore(t, dsn)
	id := uuid.New()
	for n := range 20 {
		_, err := s.Append(t.Context(), storetest.To(id, eventstore.Exactly(n), fmt.Sprint(n)))
		require.NoError(t, err)
	}
	killed := server.PID()
	require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
	require.Eventually(t, func() bool { return server.PID() != killed && answers(dsn) }, 30*time.Second, 10*time.Millisecond)
	require.Len(t, storetest.RequireSound(t, openStore(t, dsn)), 20)
}

func answers(dsn string) bool {
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		return false
	}
	return conn.Close(context.Background()) == nil
}

// resetSettings leaves the server's folder to the next test as it was.
func resetSettings(t *testing.T, dsn string) {
	conn, err := pgx.Connect(context.Background(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), "alter system reset all")
	require.NoError(t, err)
}

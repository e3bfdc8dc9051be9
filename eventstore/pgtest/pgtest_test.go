package pgtest

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestEachTestHasAnEmptyDatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 8)
	t.Run("all", func(t *testing.T) {
		for range cap(seen) {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				dsn := Database(t)
				t.Logf("database after %v", time.Since(began))
				require.NoError(t, execute(dsn, "create table same_name ()"))
				seen <- dsn
			})
		}
	})
	close(seen)
	different := map[string]bool{}
	for dsn := range seen {
		different[dsn] = true
		require.Error(t, execute(dsn, "select 1"), "the database must be dropped with its test")
	}
	require.Len(t, different, cap(seen))
}

func TestDatabaseIsDroppedWhileSomebodyIsConnected(t *testing.T) {
	t.Parallel()
	var dsn string
	t.Run("careless", func(t *testing.T) {
		dsn = Database(t)
		_, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
	})
	require.Error(t, execute(dsn, "select 1"))
}

func TestOwnServerMayBeKilledWithoutHarmToOthers(t *testing.T) {
	t.Parallel()
	other := Database(t)
	own := OwnServer(t)
	killed := own.PID()
	require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
	require.NoError(t, execute(other, "select 1"))
	require.Eventually(t, func() bool {
		return own.PID() != killed && execute(own.DSN(), "select 1") == nil
	}, 15*time.Second, 10*time.Millisecond)
}

func TestSharedServerKeepsItsFolderToTheEnd(t *testing.T) {
	t.Parallel()
	dsn := Database(t)
	runtime.GC() // a lock that nobody refers to would be closed by its finalizer
	runtime.GC()
	require.NotEqual(t, Server(t).DSN(), OwnServer(t).DSN())
	require.NoError(t, execute(dsn, "select 1"))
}

func TestServerOfTheEnvironmentIsUsedWhenThereIsOne(t *testing.T) {
	t.Setenv("VOLTRUN_TEST_DATABASE_URL", OwnServer(t).DSN())
	dsn := Database(t)
	require.Contains(t, dsn, os.Getenv("VOLTRUN_TEST_DATABASE_URL"))
	require.NoError(t, execute(dsn, "select 1"))
}

func TestConnectionStringsOfBothFormsTakeADatabase(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://u:p%40@h:5/old?sslmode=disable": "postgres://u:p%40@h:5/new?sslmode=disable",
		"host='/a b' dbname=old user=u":             "host='/a b' dbname=old user=u dbname=new",
	} {
		require.Equal(t, want, withDatabase(dsn, "new"))
		config, err := pgx.ParseConfig(withDatabase(dsn, "new"))
		require.NoError(t, err)
		require.Equal(t, "new", config.Database)
	}
}

func BenchmarkDatabase(b *testing.B) {
	admin := Server(b).DSN()
	for b.Loop() {
		name := databaseName("bench")
		require.NoError(b, execute(admin, "create database "+name))
		require.NoError(b, execute(admin, "drop database "+name+" with (force)"))
	}
}

package privatepg

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestFirstStartMakesAClusterAndRestartKeepsItsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "new", "data")
	first := start(t, Config{DataDir: dir})
	t.Logf("first start: %+v", first.Info())
	require.Equal(t, Initialised, first.Info().Kind)
	query(t, first.DSN(), "create table kept as select 42 as n")
	stop(t, first)

	second := start(t, Config{DataDir: dir})
	t.Logf("restart: %+v", second.Info())
	require.Equal(t, Restarted, second.Info().Kind)
	require.Equal(t, "42", query(t, second.DSN(), "select n from kept"))
}

func TestServerIsDurableAndListensOnNoPort(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t), Settings: map[string]string{"work_mem": "7MB"}})
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": "", "server_encoding": "UTF8",
		"lc_collate": "C", "TimeZone": "UTC", "work_mem": "7MB",
	} {
		require.Equal(t, want, query(t, s.DSN(), "select coalesce(current_setting($1, true), 'C')", setting), setting)
	}
	_, err := net.DialTimeout("tcp", "127.0.0.1:54321", time.Second)
	require.Error(t, err)
	info, err := os.Stat(s.cluster.socketDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.Equal(t, "ä", query(t, s.DSN(), "select lower('Ä')"))
}

// The log says what went wrong, and nothing of what somebody entered.
func TestTheLogTellsErrorsWithoutTheValuesOfRows(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t)})
	query(t, s.DSN(), "create table people (email text primary key, age int check (age > 0))")
	conn, err := pgx.Connect(t.Context(), s.DSN())
	require.NoError(t, err)
	defer conn.Close(context.Background())
	const insert = "insert into people values ($1, $2)"
	_, err = conn.Exec(t.Context(), insert, "canary@example.com", 1)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), insert, "canary@example.com", 1)
	require.Error(t, err)
	_, err = conn.Exec(t.Context(), insert, "canary", -1)
	require.Error(t, err)
	_, err = conn.CopyFrom(t.Context(), pgx.Identifier{"people"}, []string{"email", "age"}, pgx.CopyFromRows([][]any{{"canary@example.com", 1}}))
	require.Error(t, err)
	log, err := os.ReadFile(s.Info().LogFile)
	require.NoError(t, err)
	require.Contains(t, string(log), "duplicate key value")
	require.Contains(t, string(log), "violates check constraint")
	require.NotContains(t, string(log), "canary")
}

func TestSecondStartOnTheSameFolderIsRefusedAndTouchesNothing(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	first := startHelper(t, dir, 0)
	require.Empty(t, first.Error)
	before := query(t, first.DSN, "select pg_postmaster_start_time()::text")

	second := startHelper(t, dir, 0)
	require.True(t, second.InUse, second.Error)
	require.Contains(t, second.Error, "another VoltRun (process ")
	require.Contains(t, second.Error, dir)
	require.Equal(t, before, query(t, first.DSN, "select pg_postmaster_start_time()::text"))
}

func TestSameProcessCannotStartTwiceEither(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t)})
	_, err := Start(t.Context(), Config{DataDir: s.cluster.dataDir})
	require.True(t, IsInUse(err), err)
}

func TestStopShutsDownInOrderWithClientsConnectedAndIsSafeTwice(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: openDir(t)})
	asleep := make(chan error, 1)
	go func() {
		_, err := tryQuery(t.Context(), s.DSN(), "select pg_sleep(60)")
		asleep <- err
	}()
	require.Eventually(t, func() bool {
		return query(t, s.DSN(), "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'") == "1"
	}, 5*time.Second, 10*time.Millisecond)

	began := time.Now()
	stop(t, s)
	require.Less(t, time.Since(began), 5*time.Second)
	stop(t, s)
	require.Error(t, <-asleep)
	require.Empty(t, serversIn(s.cluster.dir()))
	require.Equal(t, Restarted, start(t, Config{DataDir: s.cluster.dataDir}).Info().Kind)
}

func TestDeepAndOddDataFoldersWork(t *testing.T) {
	t.Parallel()
	for name, deep := range map[string]string{
		"deep": strings.Repeat("a-rather-long-folder-name/", 6),
		"odd":  `it's "quoted", with spaces \ and ünicode`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{DataDir: filepath.Join(openDir(t), deep)})
			require.Equal(t, "1", query(t, s.DSN(), "select 1"))
			stop(t, s)
			require.NoDirExists(t, s.cluster.socketDir)
		})
	}
}

func TestFolderThatSomebodyElsePutInTheSocketsPlaceIsRefused(t *testing.T) {
	t.Parallel()
	asRoot(t)
	dir := filepath.Join(openDir(t), "squatted")
	require.NoError(t, os.Mkdir(dir, 0o777))
	require.NoError(t, os.Chown(dir, 54321, 54321))
	require.ErrorContains(t, checkOurs(dir, account{uid: 65534}), "belongs to uid 54321")
}

func TestLogIsEmptiedAtAStartWhenItHasGrownTooLarge(t *testing.T) {
	t.Parallel()
	c := cluster{dataDir: t.TempDir(), account: self()}
	require.NoError(t, os.WriteFile(c.logFile(), make([]byte, maxLogSize+1), 0o600))
	log, err := openLog(c)
	require.NoError(t, err)
	_, err = log.file.WriteString("new\n")
	require.NoError(t, err)
	require.Equal(t, "new\n", log.written())
	require.NoError(t, log.Close())
}

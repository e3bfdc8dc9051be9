package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// command is a voltrun process beside the server, with the same environment.
func (s *server) command(t testing.TB, args ...string) (*exec.Cmd, *output) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd, out := exec.Command(self, args...), &output{}
	cmd.Env = append(os.Environ(), append([]string{
		asServer + "=1", "VOLTRUN_DATA=" + s.dataDir, "PORT=" + s.port, "DATABASE_URL=", "JWT_SECRET=",
	}, s.env...)...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// run runs a command to its end, which must be good, and returns what it printed.
func (s *server) run(t testing.TB, args ...string) string {
	t.Helper()
	cmd, out := s.command(t, args...)
	require.NoError(t, cmd.Run(), "%v: %s", args, out)
	return out.String()
}

// connect leads to the database of a running server.
func (s *server) connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), fmt.Sprintf("host=%s port=%s user=voltrun dbname=postgres", s.socket(t)...))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// appendLines makes the log so long that a rebuild of the executions takes a while.
func (s *server) appendLines(t testing.TB, lines int) {
	t.Helper()
	config := config{DataDir: s.dataDir, PartitionSize: postgres.DefaultPartitionSize}
	err := withStore(t.Context(), config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		account := uuid.New()
		for left := lines; left > 0; left -= 1000 {
			write := eventstore.Write{StreamID: uuid.New(), Expected: eventstore.New}
			for i := range min(left, 1000) {
				line := domain.ExecutionLogLine{Stream: domain.Stdout, Text: fmt.Sprint("line ", i), At: time.Now()}
				event, err := codec.Encode(ctx, uuid.New(), line, eventstore.Metadata{AccountID: account, Actor: domain.Actor{Kind: domain.ActorSystem}})
				if err != nil {
					return err
				}
				write.Events = append(write.Events, event)
			}
			if _, err := store.Append(ctx, write); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
}

// served is the table of the logs: which one it is, and what is in it.
type served struct {
	OID  uint32
	Rows string
}

func readServed(t testing.TB, conn *pgx.Conn) (s served) {
	t.Helper()
	err := conn.QueryRow(context.Background(), `select 'execution_logs'::regclass::oid,
		(select count(*) || ' ' || sum(hashtext(l::text)) from execution_logs l)`).Scan(&s.OID, &s.Rows)
	require.NoError(t, err)
	return s
}

func requireNoLeftovers(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	var schemas []string
	err := conn.QueryRow(context.Background(),
		"select coalesce(array_agg(nspname), '{}') from pg_namespace where nspname ~ '^(rebuild|retired)_'").Scan(&schemas)
	require.NoError(t, err)
	require.Empty(t, schemas)
}

// pastLines are so many that a rebuild takes a tenth of a second at least.
const pastLines = 20_000

func TestARebuildThatIsKilledLeavesEverythingAsItWas(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	s.appendLines(t, pastLines)
	s.awaitHealthy(t)
	conn := s.connect(t)
	before, unswapped := readServed(t, conn), 0
	for _, moment := range []time.Duration{0, 5, 15, 40, 80, 150, 300} {
		s.killRebuild(t, conn, moment*time.Millisecond)
		now := readServed(t, conn)
		require.Equal(t, before.Rows, now.Rows, "killed after %d ms", moment)
		if now.OID == before.OID {
			unswapped++
		}
		before = now
		s.awaitHealthy(t)
	}
	require.Positive(t, unswapped, "the first kill comes when the rebuild has hardly begun")
	s.killWhileSwapping(t, conn)
	require.Equal(t, before, readServed(t, conn))

	require.NoError(t, s.stop(t))
	s.start(t)
	conn = s.connect(t)
	requireNoLeftovers(t, conn)
	require.Equal(t, before, readServed(t, conn))
	require.NotContains(t, s.run(t, "projections", "verify"), "DIFFERENT")
	requireNoLeftovers(t, conn)
}

// killRebuild kills a rebuild so long after it has begun to fill its tables, unless it was faster.
func (s *server) killRebuild(t *testing.T, conn *pgx.Conn, after time.Duration) {
	t.Helper()
	cmd, out := s.command(t, "projections", "rebuild", "executions")
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		var filling bool
		err := conn.QueryRow(context.Background(), "select to_regclass('rebuild_executions.execution_logs') is not null").Scan(&filling)
		return err == nil && filling
	}, time.Minute, time.Millisecond, "%s", out)
	time.Sleep(after)
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err != nil {
		require.Equal(t, syscall.SIGKILL, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(), out)
	}
}

// killWhileSwapping kills a rebuild that has all its locks but the one that a reader keeps from it.
func (s *server) killWhileSwapping(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	reader, err := conn.Begin(context.Background())
	require.NoError(t, err)
	_, err = reader.Exec(context.Background(), "select from execution_logs limit 1")
	require.NoError(t, err)
	cmd, _ := s.command(t, "projections", "rebuild", "executions")
	require.NoError(t, cmd.Start())
	watcher := s.connect(t)
	require.Eventually(t, func() bool {
		var waits bool
		err := watcher.QueryRow(context.Background(), `select exists (select from pg_stat_activity
			where application_name = 'voltrun rebuild executions' and wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && waits
	}, time.Minute, time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.NoError(t, reader.Rollback(context.Background()))
}

func TestAServerThatIsKilledWhileItRebuildsServesWhatItServed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c := s.operator(t)
	s.appendLines(t, pastLines)
	s.awaitHealthy(t)
	before := readServed(t, s.connect(t))
	const rebuild = "/api/admin/projections/executions/rebuild"
	c.must(t, http.StatusAccepted, "POST", rebuild, nil, nil)
	require.Eventually(t, func() bool {
		var progress struct {
			Done int `json:"events_done"`
		}
		c.must(t, http.StatusOK, "GET", rebuild, nil, &progress)
		return progress.Done > 0
	}, time.Minute, time.Millisecond)
	s.kill(t)
	s.start(t)
	conn := s.connect(t)
	after := readServed(t, conn)
	require.Equal(t, before.Rows, after.Rows)
	requireNoLeftovers(t, conn)
	c.must(t, http.StatusNotFound, "GET", rebuild, nil, nil)
}

func TestProjectionsAreRebuiltAndVerifiedWhetherAServerRunsOrNot(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	cmd, out := s.command(t, "projections", "rebuild", "--all")
	require.Error(t, cmd.Run())
	require.Contains(t, out.String(), "there is no VoltRun in the data folder "+s.dataDir)
	s.start(t)
	c := s.register(t)
	c.createFunction(t, "nodejs", "exports.handler = async () => 1")
	check := func() {
		require.Regexp(t, `functions: \d+ events rebuilt in `, s.run(t, "projections", "rebuild", "functions", "keys"))
		shown := s.run(t, "projections", "verify")
		for _, table := range []string{"accounts", "functions", "executions", "execution_logs", "keys"} {
			require.Regexp(t, table+` +\d+ +[0-9a-f]{32} +as the log says`, shown)
		}
	}
	check()
	require.Regexp(t, `functions +following`, s.run(t, "projections", "status"))
	require.Contains(t, s.run(t, "projections", "resume", "keys"), "keys goes on")
	require.NoError(t, s.stop(t))
	check()
	s.start(t)
	c.must(t, http.StatusOK, "GET", "/api/functions", nil, nil)
	for _, args := range [][]string{{"rebuild"}, {"rebuild", "nothing"}, {"rebuild", "keys", "--all"}, {"verify", "nothing"}, {"resume", "nothing"}} {
		cmd, out := s.command(t, append([]string{"projections"}, args...)...)
		require.Error(t, cmd.Run(), args)
		require.Contains(t, out.String(), "projection", args)
	}
}

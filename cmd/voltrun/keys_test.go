package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/proof"
)

// refused runs a command that has to fail, and returns what it printed.
func (s *server) refused(t *testing.T, args ...string) string {
	t.Helper()
	cmd, out := s.command(t, args...)
	require.Error(t, cmd.Run(), "%v: %s", args, out)
	return out.String()
}

// keyLines are the master keys of a server's file.
func (s *server) keyLines(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(config{DataDir: s.dataDir}.masterKeyFile())
	require.NoError(t, err)
	return strings.Fields(string(content))
}

func (s *server) writeKeys(t *testing.T, lines ...string) {
	t.Helper()
	require.NoError(t, os.WriteFile(config{DataDir: s.dataDir}.masterKeyFile(), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

func idOf(t *testing.T, hex string) string {
	t.Helper()
	key, err := eventstore.ParseMasterKey(hex)
	require.NoError(t, err)
	return key.ID().String()
}

func (p person) works(t *testing.T) {
	t.Helper()
	id, err := p.key.execute(t.Context(), p.function, map[string]any{"say": "works", "times": 1})
	require.NoError(t, err)
	require.Contains(t, string(p.awaitEnd(t, id).Output), "works")
}

func TestTheMasterKeyIsChangedWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	before := s.signUp(t, newWord())
	before.live(t)
	old := s.keyLines(t)
	require.Len(t, old, 1)
	require.Regexp(t, idOf(t, old[0])+` +2 .*master_key, number 1, which wraps new ones`, s.run(t, "keys", "status"), "the account's and the server's own")

	out := s.run(t, "keys", "rotate")
	keys := s.keyLines(t)
	require.Len(t, keys, 2)
	require.Equal(t, old[0], keys[1], "the old key stays")
	require.NotContains(t, out, keys[0])
	for _, said := range []string{idOf(t, keys[0]), "2 data keys wrapped anew", "Back up " + config{DataDir: s.dataDir}.masterKeyFile()} {
		require.Contains(t, out, said)
	}
	info, err := os.Stat(config{DataDir: s.dataDir}.masterKeyFile())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	before.works(t)
	after := s.signUp(t, newWord())
	after.live(t)
	status := s.run(t, "keys", "status")
	require.Regexp(t, idOf(t, keys[0])+` +3 `, status)
	require.Regexp(t, idOf(t, keys[1])+` +0 .*which only backups from before need`, status)

	require.NoError(t, s.stop(t))
	s.writeKeys(t, keys[0])
	require.Contains(t, s.run(t, "keys", "rotate"), "3 data keys wrapped anew", "without a server as well")
	s.start(t)
	before.works(t)
	after.works(t)
	s.run(t, "projections", "verify")
}

// A rotation was killed when some data keys were wrapped anew and others were not.
func TestARotationThatWasKilledIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	people := []person{s.signUp(t, newWord()), s.signUp(t, newWord())}
	for i := range people {
		people[i].live(t)
	}
	keys := append([]string{strings.Repeat("ab", 32)}, s.keyLines(t)...)
	s.writeKeys(t, keys...)
	config := config{DataDir: s.dataDir, PartitionSize: postgres.DefaultPartitionSize}
	require.NoError(t, withStore(t.Context(), config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		_, err := store.Pool().Exec(ctx, "create table aside as select * from vault where owner = $1 and name = $2", people[1].id, eventstore.DataKeySecret)
		require.NoError(t, err)
		require.NoError(t, codec.Keys().Rotate(ctx, store, func(int) {}))
		_, err = store.Pool().Exec(ctx, "update vault v set secret = a.secret from aside a where a.owner = v.owner and a.name = v.name")
		require.NoError(t, err)
		_, err = store.Pool().Exec(ctx, "drop table aside")
		return err
	}))
	status := s.run(t, "keys", "status")
	require.Regexp(t, idOf(t, keys[0])+` +2 `, status)
	require.Regexp(t, idOf(t, keys[1])+` +1 `, status)
	for _, p := range people {
		p.works(t)
	}
	require.Contains(t, s.run(t, "keys", "rotate"), "3 data keys wrapped anew")
	require.Len(t, s.keyLines(t), 3)
	for _, p := range people {
		p.works(t)
	}
}

func TestAMasterKeyOfTheEnvironmentIsChangedByItsOwner(t *testing.T) {
	t.Parallel()
	old, next := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
	s := newServer(t, "VOLTRUN_MASTER_KEY="+old)
	s.start(t)
	p := s.signUp(t, newWord())
	p.live(t)
	require.Contains(t, s.refused(t, "keys", "rotate"), "set VOLTRUN_MASTER_KEY=NEW,OLD")
	p.works(t)
	require.NoError(t, s.stop(t))

	s.env = []string{"VOLTRUN_MASTER_KEY=" + next + "," + old}
	s.start(t)
	p.works(t)
	require.Contains(t, s.run(t, "keys", "rotate"), "Every data key is wrapped by "+idOf(t, next))
	p.works(t)
	require.NoError(t, s.stop(t))

	s.env = []string{"VOLTRUN_MASTER_KEY=" + next}
	s.start(t)
	p.works(t)
	require.NoFileExists(t, config{DataDir: s.dataDir}.masterKeyFile())
}

// Nothing could be read, and a key that was made anew would hide it.
func TestWithoutItsMasterKeyAServerDoesNotStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	p := s.signUp(t, newWord())
	p.live(t)
	key := s.keyLines(t)
	require.NoError(t, s.stop(t))
	start := func() string {
		s.launch(t, "serve")
		require.Error(t, <-s.exited)
		s.process = nil
		return s.output.String()
	}

	require.NoError(t, os.Remove(config{DataDir: s.dataDir}.masterKeyFile()))
	require.Contains(t, start(), "the master key is missing")
	require.NoFileExists(t, config{DataDir: s.dataDir}.masterKeyFile())
	s.writeKeys(t, strings.Repeat("0c", 32))
	require.Contains(t, start(), idOf(t, key[0]))
	require.Contains(t, s.refused(t, "keys", "status"), "missing: the accounts of these data keys cannot be read")
	require.Contains(t, s.refused(t, "keys", "rotate"), idOf(t, key[0]))
	require.Equal(t, []string{strings.Repeat("0c", 32)}, s.keyLines(t), "nothing was changed")
	s.writeKeys(t, "no key")
	require.Contains(t, start(), "64 hex digits")

	s.writeKeys(t, key...)
	s.start(t)
	p.works(t)
	p.must(t, http.StatusOK, "GET", "/api/auth/me", nil, nil)
}

// The new master key is in one data folder, and what it wraps is in the database that both servers have.
func TestAServerWithoutTheNewMasterKeySaysSoAndGoesOnWhenItIsThere(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + pgtest.Database(t), "JWT_SECRET=" + rand.Text() + rand.Text(), "VOLTRUN_PROOF_KEY=" + proof.GenerateKey()}
	one, other := newServer(t, env...), newServer(t, env...)
	one.start(t)
	p := one.signUp(t, newWord())
	p.live(t)
	other.writeKeys(t, one.keyLines(t)...)
	other.start(t)
	elsewhere := client{other.url(), p.key.bearer}
	var functions []struct{ Name string }
	elsewhere.must(t, http.StatusOK, "GET", "/api/functions", nil, &functions)

	one.run(t, "keys", "rotate")
	lacks := "lacks the master key " + idOf(t, one.keyLines(t)[0])
	var health struct{ Status, Error string }
	elsewhere.must(t, http.StatusServiceUnavailable, "GET", "/health", nil, &health)
	require.Equal(t, "degraded", health.Status)
	require.Contains(t, health.Error, lacks)
	require.Contains(t, health.Error, "Copy that server's file master_key")
	var said struct{ Error, Code string }
	require.Eventually(t, func() bool { // as soon as the data key is forgotten
		status, err := elsewhere.call(t.Context(), "GET", "/api/functions", nil, &said)
		return err == nil && status == http.StatusServiceUnavailable
	}, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, "unavailable", said.Code)
	require.Contains(t, said.Error, lacks)
	p.works(t) // on the server that has the key, however often the other one tries

	other.writeKeys(t, one.keyLines(t)...)
	other.awaitHealthy(t)
	elsewhere.must(t, http.StatusOK, "GET", "/api/functions", nil, &functions)
	person{client: elsewhere, key: elsewhere, function: p.function}.works(t)
}

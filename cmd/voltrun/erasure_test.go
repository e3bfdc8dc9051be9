package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/proof"
	"github.com/voltrun/voltrun/projections"
)

// person is somebody with an account who says the same word everywhere.
type person struct {
	client
	word     string
	id       uuid.UUID
	key      client // the same account by its API key
	function uuid.UUID
}

func (s *server) signUp(t *testing.T, word string) person {
	t.Helper()
	p := person{client: client{url: s.url()}, word: word}
	var account struct {
		Token string
		User  struct{ ID uuid.UUID }
	}
	registration := p.credentials()
	registration["name"] = "name " + word
	p.must(t, http.StatusCreated, "POST", "/api/auth/register", registration, &account)
	p.bearer, p.id = account.Token, account.User.ID
	var key struct{ Key string }
	p.must(t, http.StatusCreated, "POST", "/api/keys", map[string]string{"name": "key " + word}, &key)
	p.key = client{s.url(), key.Key}
	return p
}

func (p person) credentials() map[string]string {
	return map[string]string{"email": p.word + "@example.com", "password": "password " + p.word}
}

// newWord is a word that stands nowhere yet.
func newWord() string { return "canary" + strings.ToLower(rand.Text()) }

// live uses everything that takes words, in small and in large.
func (p *person) live(t *testing.T) {
	t.Helper()
	var function struct{ ID uuid.UUID }
	p.repeatable(t, "/api/functions", map[string]any{
		"name": "function " + p.word, "description": "description " + p.word, "runtime": "nodejs", "entry_point": "file_" + p.word + ".handler",
		"code": "// code " + p.word + `
			class Error_` + p.word + ` extends Error {}
			function frame_` + p.word + `(e) { throw new Error_` + p.word + `('error ` + p.word + `') }
			exports.handler = async (e) => {
				console.log('line ` + p.word + ` ' + e.say.repeat(e.times))
				if (e.fail) frame_` + p.word + `(e)
				return ['output ` + p.word + `', e.say.repeat(e.times)]
			}`,
	}, &function)
	p.function = function.ID
	p.must(t, http.StatusOK, "PUT", "/api/functions/"+p.function.String(), map[string]any{"description": "changed " + p.word}, nil)
	for _, input := range []map[string]any{
		{"say": p.word, "times": 1, "fail": false}, {"say": p.word, "times": 1, "fail": true},
		{"say": p.word + " ", "times": 2000, "fail": false},
	} {
		var accepted struct {
			ID uuid.UUID `json:"execution_id"`
		}
		p.repeatable(t, "/api/functions/"+p.function.String()+"/execute", map[string]any{"input": input}, &accepted)
		x := p.awaitEnd(t, accepted.ID)
		require.Equal(t, input["fail"], x.Error != "", x.Error)
		require.Contains(t, x.Logs, "line "+p.word)
	}
}

// repeatable is a POST that may be sent again, so that its answer is kept for a while.
func (p *person) repeatable(t *testing.T, path string, body, result any) {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	status, answer, err := keyedRequest{path: path, body: string(text), bearer: p.bearer, key: p.word + rand.Text()}.send(t.Context(), p.url)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status, "%s", answer)
	require.NoError(t, json.Unmarshal(answer, result))
}

// inFiles lists the files below a folder that contain one of these texts, the write-ahead log excepted.
func inFiles(t *testing.T, folder string, texts ...[]byte) (files []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was there a moment ago
			return nil
		case err != nil:
			return err
		case entry.Name() == "pg_wal":
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if slices.ContainsFunc(texts, func(text []byte) bool { return bytes.Contains(content, text) }) {
			files = append(files, path)
		}
		return nil
	})
	require.NoError(t, err)
	return files
}

// inTables lists the tables with a row that contains a word, as text or as bytes, in whatever form they are stored.
func inTables(t *testing.T, db *pgx.Conn, word string) (tables []string) {
	t.Helper()
	rows, err := db.Query(t.Context(), "select oid::regclass::text from pg_class where relkind = 'r'")
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(all), 50)
	for _, table := range all {
		var found bool
		require.NoError(t, db.QueryRow(t.Context(), "select exists (select from "+table+" t where position($1 in t::text) > 0 or position($2 in t::text) > 0)",
			word, hex.EncodeToString([]byte(word))).Scan(&found), table)
		if found {
			tables = append(tables, table)
		}
	}
	return tables
}

func connectTo(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func mustExec(t *testing.T, db *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := db.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func number(t *testing.T, db *pgx.Conn, sql string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

// erasures is what the server says of its eraser.
func (s *server) erasures(t *testing.T) (status projections.ErasureStatus) {
	t.Helper()
	s.operator(t).must(t, http.StatusOK, "GET", "/api/admin/erasures", nil, &status)
	return status
}

// operator is the client of whoever runs the server.
func (s *server) operator(t *testing.T) client {
	t.Helper()
	secret := ""
	for _, variable := range s.env {
		if value, ok := strings.CutPrefix(variable, "JWT_SECRET="); ok {
			secret = value
		}
	}
	token, err := operatorToken(config{DataDir: s.dataDir, JWTSecret: secret})
	require.NoError(t, err)
	return client{s.url(), token}
}

// awaitErased waits until the server says that nothing is left of the accounts that were erased up to a position.
func (s *server) awaitErased(t *testing.T, position projections.Position) {
	t.Helper()
	require.Eventually(t, func() bool { return s.erasures(t).Position >= position }, time.Minute, 50*time.Millisecond, "%+v\n%s", s.erasures(t), s.output)
	require.Eventually(t, func() bool { return s.erasures(t).State == projections.ErasureIdle }, 10*time.Second, 10*time.Millisecond)
}

func erasedAt(t *testing.T, db *pgx.Conn, account uuid.UUID) (position projections.Position) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), "select position from events where type = 'account.erased' and account_id = $1", account).Scan(&position))
	return position
}

// The account's word is looked for byte by byte, with every file and every row in view. That the look finds what is there
// is seen before the erasure, and again before the traces are removed.
func TestNothingOfAnErasedAccountIsLeftInItsDataFolder(t *testing.T) {
	t.Parallel()
	runs := publicTempDir(t)
	s := newServer(t, "TMPDIR="+runs)
	s.start(t)
	erased, other := s.signUp(t, newWord()), s.signUp(t, newWord())
	erased.live(t)
	other.live(t)
	db := s.connect(t)
	mustExec(t, db, "analyze")
	mustExec(t, db, "checkpoint")
	var secrets [][]byte
	require.NoError(t, db.QueryRow(t.Context(), "select array_agg(secret) from vault where owner = $1", erased.id).Scan(&secrets))
	require.Len(t, secrets, 2, "a password and a data key")
	require.Equal(t, 4, number(t, db, "select count(*) from answers where account_id = $1", erased.id))
	require.Subset(t, inTables(t, db, erased.word), []string{"accounts", "execution_logs", "executions", "functions", "keys"})
	require.NotEmpty(t, inFiles(t, s.dataDir, []byte(erased.word)))
	require.NotEmpty(t, inFiles(t, s.dataDir, secrets...))

	var said struct{ Message string }
	erased.must(t, http.StatusOK, "DELETE", "/api/account", map[string]string{"password": erased.credentials()["password"]}, &said)
	require.Contains(t, said.Message, "erased")
	for _, c := range []client{erased.client, erased.key} {
		c.must(t, http.StatusUnauthorized, "GET", "/api/functions", nil, nil)
	}
	client{url: s.url()}.must(t, http.StatusUnauthorized, "POST", "/api/auth/login", erased.credentials(), nil)
	require.Eventually(t, func() bool {
		return number(t, db, "select count(*) from checkpoints where consumer like 'projection.%' and position < $1", erasedAt(t, db, erased.id)) == 0
	}, 10*time.Second, 10*time.Millisecond)
	require.Empty(t, inTables(t, db, erased.word), "no row can be read any more")
	mustExec(t, db, "checkpoint")
	require.NotEmpty(t, inFiles(t, s.dataDir, []byte(erased.word)), "but the bytes of the deleted rows are where they were")

	s.awaitErased(t, erasedAt(t, db, erased.id))
	require.Empty(t, inTables(t, db, erased.word))
	require.Empty(t, inFiles(t, s.dataDir, []byte(erased.word)))
	require.Empty(t, inFiles(t, s.dataDir, secrets...))
	require.Empty(t, inFiles(t, runs, []byte(erased.word)))
	require.NotContains(t, s.output.String(), erased.word)

	require.Zero(t, number(t, db, "select count(*) from answers where account_id = $1", erased.id))
	require.NotEmpty(t, inTables(t, db, other.word), "another account is untouched")
	other.must(t, http.StatusOK, "GET", "/api/auth/me", nil, nil)
	id, err := other.key.execute(t.Context(), other.function, map[string]any{"say": "again", "times": 1})
	require.NoError(t, err)
	require.Contains(t, string(other.awaitEnd(t, id).Output), "again")
	again := s.signUp(t, erased.word)
	require.NotEqual(t, erased.id, again.id, "the address is free")
	s.run(t, "projections", "verify")
	require.Contains(t, s.run(t, "audit", "verify"), "OK: every event is there")
	require.NoError(t, s.stop(t))
	s.start(t)
	erased.must(t, http.StatusUnauthorized, "GET", "/api/functions", nil, nil)
}

// newShared returns two servers on one database, which have the same secrets.
func newShared(t *testing.T) (dsn string, one, other *server) {
	t.Helper()
	dsn = pgtest.Database(t)
	env := []string{
		"DATABASE_URL=" + dsn, "JWT_SECRET=" + rand.Text() + rand.Text(), "VOLTRUN_MASTER_KEY=" + strings.Repeat("5e", 32),
		"VOLTRUN_PROOF_KEY=" + proof.GenerateKey(),
	}
	return dsn, newServer(t, env...), newServer(t, env...)
}

// lockVault lets nobody change the vault until unlock is called: an erasure stops between its fact and the end of the key.
func lockVault(t *testing.T, dsn string) (unlock func()) {
	t.Helper()
	conn := connectTo(t, dsn)
	mustExec(t, conn, "begin; lock table vault in share mode")
	return func() { mustExec(t, conn, "rollback") }
}

// eraseUntilTheFact asks for an erasure that cannot be completed, and returns when it is in the log.
func eraseUntilTheFact(t *testing.T, db *pgx.Conn, p person) {
	t.Helper()
	go func() { _, _ = p.call(context.Background(), "DELETE", "/api/account", nil, nil) }()
	require.Eventually(t, func() bool {
		return number(t, db, "select count(*) from events where type = 'account.erased' and account_id = $1", p.id) == 1
	}, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, 2, number(t, db, "select count(*) from vault where owner = $1", p.id), "the key is still there")
}

// requireErased waits until the account is nobody to a server and its key is gone.
func requireErased(t *testing.T, db *pgx.Conn, p person, servers ...*server) {
	t.Helper()
	for _, s := range servers {
		require.Eventually(t, func() bool {
			status, err := client{s.url(), p.bearer}.call(t.Context(), "GET", "/api/auth/me", nil, nil)
			return err == nil && status == http.StatusUnauthorized
		}, 40*time.Second, 5*time.Millisecond)
	}
	require.Eventually(t, func() bool {
		return number(t, db, "select count(*) from vault where owner = $1 and name <> 'erased'", p.id) == 0
	}, 20*time.Second, 5*time.Millisecond)
}

func TestAnErasureThatWasCutShortByKillIsCarriedOutByTheNextStart(t *testing.T) {
	t.Parallel()
	dsn, s, _ := newShared(t)
	s.start(t)
	db := connectTo(t, dsn)
	erased := s.signUp(t, newWord())
	unlock := lockVault(t, dsn)
	eraseUntilTheFact(t, db, erased)
	s.kill(t)
	unlock()
	require.Equal(t, 2, number(t, db, "select count(*) from vault where owner = $1", erased.id))
	s.start(t)
	requireErased(t, db, erased, s)
	s.awaitErased(t, erasedAt(t, db, erased.id))
	require.Empty(t, inTables(t, db, erased.word))
}

func TestAnErasureThatWasCutShortByKillIsCarriedOutByTheOtherServer(t *testing.T) {
	t.Parallel()
	dsn, one, other := newShared(t)
	one.start(t)
	other.start(t)
	db := connectTo(t, dsn)
	erased := one.signUp(t, newWord())
	unlock := lockVault(t, dsn)
	eraseUntilTheFact(t, db, erased)
	one.kill(t)
	unlock()
	requireErased(t, db, erased, other)
	other.awaitErased(t, erasedAt(t, db, erased.id))
	require.Empty(t, inTables(t, db, erased.word))
}

// The server is killed when some read models are rebuilt and one waits for its swap.
func TestARemovalOfTracesThatWasCutShortByKillIsDoneAgain(t *testing.T) {
	t.Parallel()
	dsn, s, _ := newShared(t)
	s.start(t)
	db, reader := connectTo(t, dsn), connectTo(t, dsn)
	erased := s.signUp(t, newWord())
	erased.live(t)
	mustExec(t, reader, "begin; lock table functions in access share mode")
	erased.must(t, http.StatusOK, "DELETE", "/api/account", nil, nil)
	rebuilding := "select count(*) from pg_namespace where nspname = 'rebuild_functions'"
	require.Eventually(t, func() bool {
		return s.erasures(t).State == projections.ErasureRemoving && number(t, db, rebuilding) == 1
	}, time.Minute, 10*time.Millisecond)
	s.kill(t)
	mustExec(t, reader, "rollback")
	require.Zero(t, number(t, db, "select count(*) from checkpoints where consumer = 'eraser'"))
	s.start(t)
	s.awaitErased(t, erasedAt(t, db, erased.id))
	require.Zero(t, number(t, db, rebuilding))
	require.Empty(t, inTables(t, db, erased.word))
}

// Both servers remember the account's key and run its functions when one of them erases it.
func TestAnErasureIsForEveryServerAndEndsWhatRuns(t *testing.T) {
	t.Parallel()
	dsn, one, other := newShared(t)
	one.start(t)
	other.start(t)
	db := connectTo(t, dsn)
	erased, stays := one.signUp(t, newWord()), other.signUp(t, newWord())
	const endless = "exports.handler = () => new Promise((done) => setTimeout(done, 600_000))"
	for _, p := range []*person{&erased, &stays} {
		p.function = p.createFunction(t, "nodejs", endless)
	}
	running := func(s *server) (n int) {
		var health struct{ Executions struct{ Running int } }
		_, err := client{url: s.url()}.call(t.Context(), "GET", "/health", nil, &health)
		require.NoError(t, err)
		return health.Executions.Running
	}
	for _, p := range []person{erased, erased, erased, stays} {
		_, err := p.execute(t.Context(), p.function, 1)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return running(one)+running(other) == 4 }, 20*time.Second, 10*time.Millisecond)
	began := time.Now()
	client{other.url(), erased.bearer}.must(t, http.StatusOK, "DELETE", "/api/account", nil, nil)
	requireErased(t, db, erased, one, other)
	require.Less(t, time.Since(began), 4*time.Second, "before a server forgets the key by itself")
	require.Eventually(t, func() bool { return running(one)+running(other) == 1 }, 10*time.Second, 10*time.Millisecond)

	position := erasedAt(t, db, erased.id)
	one.awaitErased(t, position)
	other.awaitErased(t, position)
	require.Empty(t, inTables(t, db, erased.word))
	require.Equal(t, 1, running(one)+running(other), "another account's run goes on")
	require.Zero(t, number(t, db, "select count(*) from events where position > $1 and account_id = $2 and type like 'execution.%'", position, erased.id))
	require.Zero(t, number(t, db, "select count(*) from events where type like 'feed.%'"), "nothing was poisoned")
	for _, s := range []*server{one, other} {
		require.NotContains(t, s.output.String(), "level=ERROR")
	}
}

// unseal makes of a server's log what it would be if the first version had written it: every payload in plain form, and no
// account with a data key.
func (s *server) unseal(t *testing.T) {
	t.Helper()
	config := config{DataDir: s.dataDir, PartitionSize: postgres.DefaultPartitionSize}
	require.NoError(t, withStore(t.Context(), config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		conn, err := store.Pool().Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		mustExec(t, conn.Conn(), "set session_replication_role to replica")
		for e, err := range store.ReadAll(ctx, 0) {
			require.NoError(t, err)
			disclosure, err := codec.Disclose(ctx, e.NewEvent)
			require.NoError(t, err)
			mustExec(t, conn.Conn(), "update events set data = $2 where position = $1", e.Position, eventstore.PlainOf(disclosure))
		}
		mustExec(t, conn.Conn(), "delete from vault where name = $1 and owner <> $2", eventstore.DataKeySecret, uuid.Nil)
		mustExec(t, conn.Conn(), "delete from checkpoints where consumer = 'sealed'")
		mustExec(t, conn.Conn(), "analyze")
		mustExec(t, conn.Conn(), "reset session_replication_role")
		return nil
	}))
}

// The first version sealed nothing.
func TestAnAccountOfAnEarlyVersionIsErasedLikeAnyOther(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	erased, other := s.signUp(t, newWord()), s.signUp(t, newWord())
	erased.live(t)
	other.live(t)
	require.NoError(t, s.stop(t))
	s.unseal(t)
	require.NotEmpty(t, inFiles(t, filepath.Join(s.dataDir, "postgres"), []byte("description "+erased.word)))
	s.start(t)
	db := s.connect(t)
	require.NotContains(t, strings.Join(inTables(t, db, erased.word), " "), "events_")
	require.NotContains(t, strings.Join(inTables(t, db, erased.word), " "), "pg_statistic")
	erased.must(t, http.StatusOK, "DELETE", "/api/account", nil, nil)
	s.awaitErased(t, erasedAt(t, db, erased.id))
	require.Empty(t, inTables(t, db, erased.word))
	require.Empty(t, inFiles(t, s.dataDir, []byte(erased.word)))
	other.works(t)
	s.run(t, "projections", "verify")
	require.Contains(t, s.run(t, "audit", "verify"), "OK: every event is there")
}

package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/archive"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/eventstore/transfer"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// instance is a VoltRun with a master key of its own.
type instance struct {
	*commands.Handlers
	store *postgres.Store
	codec *eventstore.Codec
	dir   string // of the archive
}

func newInstance(t testing.TB, master byte, partition int64) instance {
	t.Helper()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(t.Context(), dsn)
	require.NoError(t, err)
	store, err := postgres.Open(t.Context(), dsn, uuid.New(), slog.New(slog.DiscardHandler), postgres.PartitionSize(partition))
	require.NoError(t, err)
	t.Cleanup(store.Close)
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	codec := eventstore.DomainCodec(eventstore.NewKeyRing(store, eventstore.MasterKey{master}))
	return instance{commands.New(store, store, codec, passwords, []string{"nodejs"}), store, codec, t.TempDir()}
}

var origin = commands.Origin{Actor: domain.Actor{Kind: domain.ActorSystem}, RequestID: uuid.New()}

const password = "correct horse"

func (i instance) register(t testing.TB, email string) uuid.UUID {
	t.Helper()
	login, err := i.RegisterAccount.Handle(t.Context(), origin, domain.RegisterAccount{Email: email, Password: password, Name: "Ada"})
	require.NoError(t, err)
	return login.Account.ID
}

func (i instance) function(t testing.TB, account uuid.UUID, name string) uuid.UUID {
	t.Helper()
	id, _, err := i.CreateFunction.Handle(t.Context(), origin, domain.CreateFunction{AccountID: account, Name: name, Runtime: "nodejs", Code: "code"})
	require.NoError(t, err)
	return id
}

// request asks for an execution that nobody runs.
func (i instance) request(t testing.TB, account, function uuid.UUID) uuid.UUID {
	t.Helper()
	id, _, err := i.RequestExecution.Handle(t.Context(), origin, domain.RequestExecution{
		AccountID: account, FunctionID: function, Input: json.RawMessage(`{"secret":"canary"}`),
	})
	require.NoError(t, err)
	return id
}

// run is an execution from its request to its end, with three lines.
func (i instance) run(t testing.TB, account, function uuid.UUID) uuid.UUID {
	t.Helper()
	id := i.request(t, account, function)
	attempt, err := i.ClaimExecution.Handle(t.Context(), id, uuid.New())
	require.NoError(t, err)
	line := domain.ExecutionLogLine{Stream: domain.Stdout, Text: "canary", At: time.Now().UTC()}
	require.NoError(t, i.ReportExecution.Handle(t.Context(), attempt, []domain.ExecutionLogLine{line, line, line},
		domain.ExecutionCompleted{Output: json.RawMessage("1"), DurationMS: 12, MemoryMB: 40}))
	return id
}

// life is an account with functions, executions and an API key.
type life struct {
	account, function, execution uuid.UUID
	email                        string
	key                          commands.NewKey
}

func (i instance) live(t testing.TB, email string, executions int) life {
	t.Helper()
	l := life{account: i.register(t, email), email: email}
	l.function = i.function(t, l.account, "hello")
	name := "renamed"
	_, err := i.UpdateFunction.Handle(t.Context(), origin, domain.UpdateFunction{
		FunctionID: l.function, AccountID: l.account, Changes: domain.FunctionChanges{Name: &name},
	})
	require.NoError(t, err)
	i.past(t, l, executions-1)
	l.execution = i.run(t, l.account, l.function)
	l.key, err = i.CreateKey.Handle(t.Context(), origin, l.account, "ci", nil)
	require.NoError(t, err)
	require.NoError(t, i.NoteKeyUse.Handle(t.Context(), commands.KeyUse{AccountID: l.account, KeyID: l.key.ID, At: time.Now().UTC()}))
	return l
}

// past gives an account executions that all have ended, in one append.
func (i instance) past(t testing.TB, l life, executions int) {
	t.Helper()
	if executions == 0 {
		return
	}
	var writes []eventstore.Write
	for range executions {
		id := uuid.Must(uuid.NewV7())
		line := domain.ExecutionLogLine{Stream: domain.Stdout, Text: "canary", At: time.Now().UTC()}
		w := eventstore.Write{StreamID: id, Expected: eventstore.New}
		for _, fact := range []domain.Event{
			domain.ExecutionRequested{ExecutionID: id, AccountID: l.account, FunctionID: l.function, FunctionVersion: 2, Input: json.RawMessage("1")},
			domain.ExecutionStarted{WorkerID: uuid.New()}, line, line, line, domain.ExecutionCompleted{Output: json.RawMessage("1")},
		} {
			e, err := i.codec.Encode(t.Context(), uuid.Must(uuid.NewV7()), fact, eventstore.Metadata{AccountID: l.account, Actor: origin.Actor})
			require.NoError(t, err)
			w.Events = append(w.Events, e)
		}
		writes = append(writes, w)
	}
	_, err := i.store.Append(t.Context(), writes...)
	require.NoError(t, err)
}

func (i instance) events(t *testing.T) []eventstore.Event { return storetest.All(t, i.store) }

func (i instance) source() transfer.Source {
	return transfer.Source{Store: i.store, Codec: i.codec, Name: "voltrun/source"}
}

var key = transfer.NewKey()

func (i instance) exportLog(t *testing.T) ([]byte, transfer.Summary) {
	t.Helper()
	var file bytes.Buffer
	done, err := i.source().ExportLog(t.Context(), key, &file)
	require.NoError(t, err)
	return file.Bytes(), done
}

func (i instance) exportAccount(t *testing.T, account uuid.UUID, unfinished bool) []byte {
	t.Helper()
	archived := archive.Open(i.store.Pool(), i.dir)
	defer archived.Close()
	var file bytes.Buffer
	_, err := i.source().ExportAccount(t.Context(), key, account, transfer.AccountOptions{Archive: archived, Unfinished: unfinished}, &file)
	require.NoError(t, err)
	return file.Bytes()
}

func (i instance) take(file []byte) (transfer.Summary, error) {
	return transfer.Import(context.Background(), i.store, i.codec, key, bytes.NewReader(file), anyLog)
}

func anyLog(transfer.Header) error { return nil }

// archiveLines moves what can be archived into the instance's archive.
func (i instance) archiveLines(t *testing.T) {
	t.Helper()
	files := 0
	err := archive.NewArchiver(i.store, i.codec, archive.Config{
		Dir: i.dir, Retention: map[string]time.Duration{"execution.log_line": 0}, Logger: slog.New(slog.DiscardHandler),
	}).Run(t.Context(), func(domain.LogArchived) { files++ })
	require.NoError(t, err)
	require.Positive(t, files)
}

// requireLife wants the account to work as it did where it comes from.
func (i instance) requireLife(t *testing.T, l life) {
	t.Helper()
	login, err := i.LogIn.Handle(t.Context(), origin, domain.LogIn{Email: l.email, Password: password})
	require.NoError(t, err)
	require.Equal(t, l.account, login.Account.ID)
	live := projectionstest.Follow(t, i.store, i.codec, projections.All())
	projectionstest.CatchUp(t, i.store, live)
	queries := projections.NewQueries(i.store.Pool())
	found, err := queries.Keys.Find(t.Context(), l.key.Prefix, commands.HashKey(l.key.Key))
	require.NoError(t, err)
	require.Equal(t, l.account, found.AccountID)
	f, err := queries.Functions.Get(t.Context(), l.account, l.function)
	require.NoError(t, err)
	require.Equal(t, "renamed", f.Name)
	x, err := queries.Executions.Get(t.Context(), l.account, l.execution)
	require.NoError(t, err)
	require.Equal(t, domain.ExecutionSuccess, x.Status)
	require.Equal(t, "canary\ncanary\ncanary\n", x.Logs)
	i.run(t, l.account, l.function)
	projectionstest.CatchUp(t, i.store, live)
	projectionstest.RequireEqualToRebuilt(t, i.store, i.codec)
}

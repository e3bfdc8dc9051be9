package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// fixture is a log with its projections following it.
type fixture struct {
	*commands.Handlers
	*projections.Queries
	store *postgres.Store
	live  *projections.Live
	ctx   context.Context
}

var system = commands.Origin{Actor: domain.Actor{Kind: domain.ActorSystem}, RequestID: uuid.New()}

func newFixture(t *testing.T, list ...*projections.Projection) fixture {
	t.Helper()
	ctx := context.Background()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(ctx, dsn)
	require.NoError(t, err)
	quiet := slog.New(slog.DiscardHandler)
	store, err := postgres.Open(ctx, dsn, uuid.New(), quiet)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	return fixture{
		Handlers: commands.New(store, store, eventstore.DomainCodec(), passwords, []string{"nodejs", "python"}),
		Queries:  projections.NewQueries(store.Pool()),
		store:    store,
		live:     projectionstest.Follow(t, store, list),
		ctx:      ctx,
	}
}

func (f fixture) caughtUp(t *testing.T) {
	t.Helper()
	projectionstest.CatchUp(t, f.store, f.live)
}

func (f fixture) function(t *testing.T, owner uuid.UUID, name string) uuid.UUID {
	t.Helper()
	id, _, err := f.CreateFunction.Handle(f.ctx, system, domain.CreateFunction{AccountID: owner, Name: name, Runtime: "nodejs", Code: "code"})
	require.NoError(t, err)
	return id
}

// run requests an execution and plays its worker: it prints lines and ends in end, or stays running when end is nil.
func (f fixture) run(t *testing.T, owner, function uuid.UUID, input string, end domain.Event, lines ...string) uuid.UUID {
	t.Helper()
	id, _, err := f.RequestExecution.Handle(f.ctx, system, domain.RequestExecution{
		AccountID: owner, FunctionID: function, Input: json.RawMessage(input),
	})
	require.NoError(t, err)
	attempt, err := f.ClaimExecution.Handle(f.ctx, id, uuid.New())
	require.NoError(t, err)
	var log []domain.ExecutionLogLine
	for _, text := range lines {
		log = append(log, domain.ExecutionLogLine{Stream: domain.Stdout, Text: text, At: time.Now().UTC()})
	}
	require.NoError(t, f.ReportExecution.Handle(f.ctx, attempt, log, end))
	return id
}

func done(output string) domain.Event {
	return domain.ExecutionCompleted{Output: json.RawMessage(output), DurationMS: 12, MemoryMB: 40}
}

func TestAFunctionIsReadAsItsLastChangeLeftIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	first, second := f.function(t, owner, "first"), f.function(t, owner, "second")
	name, status := "renamed", domain.FunctionInactive
	_, err := f.UpdateFunction.Handle(f.ctx, system, domain.UpdateFunction{
		FunctionID: first, AccountID: owner, Changes: domain.FunctionChanges{Name: &name, Status: &status},
	})
	require.NoError(t, err)
	f.caughtUp(t)
	list, err := f.Functions.List(f.ctx, owner)
	require.NoError(t, err)
	require.Equal(t, []string{"second", "renamed"}, []string{list[0].Name, list[1].Name})
	require.Equal(t, 2, list[1].Version)
	require.Equal(t, "code", list[1].Code)
	require.Equal(t, status, list[1].Status)
	require.False(t, list[1].UpdatedAt.Before(list[1].CreatedAt))
	require.Equal(t, time.UTC, list[1].CreatedAt.Location())

	_, err = f.DeleteFunction.Handle(f.ctx, system, domain.DeleteFunction{FunctionID: second, AccountID: owner})
	require.NoError(t, err)
	f.caughtUp(t)
	_, err = f.Functions.Get(f.ctx, owner, second)
	require.True(t, domain.IsCode(err, domain.NotFound))
	_, err = f.Functions.Get(f.ctx, uuid.New(), first)
	require.True(t, domain.IsCode(err, domain.NotFound), "somebody else's function looks like none")
}

func TestAnExecutionIsReadWithItsLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	function := f.function(t, owner, "hello")
	good := f.run(t, owner, function, `{"a":"\u0000"}`, done(`"\u0000"`), "one", "", "three")
	bad := f.run(t, owner, function, `1`, domain.ExecutionFailed{Error: "boom", ErrorType: "TypeError", Stack: "at index.js:1:1", DurationMS: 3})
	running := f.run(t, owner, function, `[]`, nil, "still here")
	f.caughtUp(t)

	x, err := f.Executions.Get(f.ctx, owner, good)
	require.NoError(t, err)
	require.Equal(t, domain.ExecutionSuccess, x.Status)
	require.Equal(t, `{"a":"\u0000"}`, string(x.Input))
	require.Equal(t, `"\u0000"`, string(x.Output))
	require.Equal(t, "one\n\nthree\n", x.Logs)
	require.Equal(t, projections.FunctionSummary{ID: function, Name: "hello", Runtime: "nodejs"}, x.Function)
	require.Nil(t, x.Error)
	require.NotNil(t, x.StartedAt)
	require.NotNil(t, x.CompletedAt)
	require.Equal(t, int64(12), x.DurationMS)

	x, err = f.Executions.Get(f.ctx, owner, bad)
	require.NoError(t, err)
	require.Equal(t, []string{"boom", "TypeError", "at index.js:1:1"}, []string{*x.Error, *x.ErrorType, *x.Stack})
	require.Empty(t, x.Logs)
	require.Nil(t, x.Output)

	logs, err := f.Logs.Get(f.ctx, owner, running)
	require.NoError(t, err)
	require.Equal(t, projections.ExecutionLogs{ExecutionID: running, Logs: "still here\n", Status: domain.ExecutionRunning}, logs)
	_, err = f.Logs.Get(f.ctx, uuid.New(), running)
	require.True(t, domain.IsCode(err, domain.NotFound))

	held, err := f.Executions.Running(f.ctx)
	require.NoError(t, err)
	require.Len(t, held, 1)
	require.Equal(t, running, held[0].ExecutionID)
}

func TestPagesFollowEachOtherWithoutGapOrRepeat(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	a, b := f.function(t, owner, "a"), f.function(t, owner, "b")
	var ofA, failed, all []uuid.UUID
	for i := range 25 {
		function, end := a, done("1")
		if i%2 == 1 {
			function = b
		}
		if i%5 == 0 {
			end = domain.ExecutionFailed{Error: "no", ErrorType: "Error"}
		}
		id := f.run(t, owner, function, "1", end)
		all = append([]uuid.UUID{id}, all...)
		if function == a {
			ofA = append([]uuid.UUID{id}, ofA...)
		}
		if i%5 == 0 {
			failed = append([]uuid.UUID{id}, failed...)
		}
	}
	f.caughtUp(t)
	walk := func(filter projections.ExecutionFilter) []uuid.UUID {
		var ids []uuid.UUID
		for {
			page, err := f.Executions.List(f.ctx, owner, filter)
			require.NoError(t, err)
			for _, x := range page.Executions {
				ids = append(ids, x.ID)
			}
			if page.Next == 0 {
				return ids
			}
			require.Len(t, page.Executions, filter.Limit)
			filter.Before = page.Next
		}
	}
	require.Equal(t, all, walk(projections.ExecutionFilter{Limit: 7}))
	require.Equal(t, all, walk(projections.ExecutionFilter{Limit: 25}))
	require.Equal(t, ofA, walk(projections.ExecutionFilter{Limit: 4, FunctionID: a}))
	require.Equal(t, failed, walk(projections.ExecutionFilter{Limit: 2, Status: domain.ExecutionFailure}))
	require.Empty(t, walk(projections.ExecutionFilter{Limit: 2, Status: domain.ExecutionPending}))
}

func TestAPageEndsEarlyWhenItsResultsAreLarge(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	function := f.function(t, owner, "big")
	big := `"` + strings.Repeat("x", 5<<20) + `"`
	for range 3 {
		f.run(t, owner, function, "1", done(big))
	}
	f.caughtUp(t)
	page, err := f.Executions.List(f.ctx, owner, projections.ExecutionFilter{Limit: 50})
	require.NoError(t, err)
	require.Len(t, page.Executions, 2)
	require.NotZero(t, page.Next)
	rest, err := f.Executions.List(f.ctx, owner, projections.ExecutionFilter{Limit: 50, Before: page.Next})
	require.NoError(t, err)
	require.Len(t, rest.Executions, 1)
	require.Zero(t, rest.Next)
}

func TestAKeyIsFoundByItsHashUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	made, err := f.CreateKey.Handle(f.ctx, system, owner, "ci", &expires)
	require.NoError(t, err)
	used := time.Now().UTC().Truncate(time.Microsecond)
	require.NoError(t, f.NoteKeyUse.Handle(f.ctx, owner, made.ID, used))
	f.caughtUp(t)
	key, err := f.Keys.Find(f.ctx, made.Prefix, commands.HashKey(made.Key))
	require.NoError(t, err)
	require.Equal(t, made.ID, key.ID)
	require.Equal(t, expires, *key.ExpiresAt)
	require.Equal(t, used, *key.LastUsed)
	_, err = f.Keys.Find(f.ctx, made.Prefix, commands.HashKey("another key"))
	require.True(t, domain.IsCode(err, domain.Unauthorized), "the prefix alone opens nothing")
	list, err := f.Keys.List(f.ctx, owner)
	require.NoError(t, err)
	require.Equal(t, []projections.Key{key}, list)

	_, err = f.DeleteKey.Handle(f.ctx, system, domain.DeleteKey{KeyID: made.ID, AccountID: owner})
	require.NoError(t, err)
	f.caughtUp(t)
	_, err = f.Keys.Find(f.ctx, made.Prefix, commands.HashKey(made.Key))
	require.True(t, domain.IsCode(err, domain.Unauthorized))
}

// The tables that followed the log live are the same as those that a new version builds from the beginning.
func TestAProjectionBuiltAnewEqualsTheOneThatFollowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	_, err := f.RegisterAccount.Handle(f.ctx, system, domain.RegisterAccount{Email: "a@example.com", Password: "secret", Name: "A"})
	require.NoError(t, err)
	function := f.function(t, owner, "hello")
	for i := range 40 {
		f.run(t, owner, function, fmt.Sprint(i), done(fmt.Sprint(i)), "line", "line")
	}
	f.run(t, owner, function, "1", domain.ExecutionFailed{Error: "x", ErrorType: "Y"})
	f.caughtUp(t)
	projectionstest.RequireEqualToRebuilt(t, f.store)
}

func TestAProjectionThatFailsPausesAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	broken := *projections.All()[1]
	require.Equal(t, "functions", broken.Name)
	broken.Fold = func(projections.Recorded, *projections.Changes) { panic("cannot fold this") }
	list := projections.All()
	list[1] = &broken
	f := newFixture(t, list...)
	owner := uuid.New()
	function := f.function(t, owner, "hello")
	id := f.run(t, owner, function, "1", done("2"))
	head, err := f.store.Head(f.ctx)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Second)
	defer cancel()
	require.Error(t, f.live.Wait(ctx, "functions", head))
	require.NoError(t, ctx.Err(), "a paused projection answers at once")
	require.NoError(t, f.live.Wait(ctx, "executions", head))
	_, err = f.Executions.Get(f.ctx, owner, id)
	require.NoError(t, err)
	for _, s := range f.live.Status(head) {
		if s.Name == "functions" {
			require.Equal(t, projections.Status{
				Name: "functions", Position: 0, Lag: head, State: projections.Paused, Error: s.Error,
			}, s)
			require.Contains(t, s.Error, "cannot fold this")
		}
	}
}

// Each hot query reads only the rows that it answers with, whatever the table's size.
func TestHotQueriesUseTheirIndexes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	for name, c := range map[string]struct{ query, index string }{
		"functions":            {"select * from functions where account_id = $1 order by created_position desc", "functions_newest_first"},
		"executions":           {"select * from executions where account_id = $1 order by created_position desc limit 50", "executions_newest_first"},
		"of a function":        {"select * from executions where account_id = $1 and function_id = $1 order by created_position desc limit 50", "executions_of_function"},
		"of a status":          {"select * from executions where account_id = $1 and status = 'failed' order by created_position desc limit 50", "executions_by_status"},
		"held by workers":      {"select id, worker_id from executions where status = 'running'", "executions_running"},
		"a log":                {"select text from execution_logs where execution_id = $1 order by position", "execution_logs_pkey"},
		"a key":                {"select * from keys where prefix = 'vr_012345678'", "keys_by_prefix"},
		"an account's keys":    {"select * from keys where account_id = $1 order by created_position desc", "keys_newest_first"},
		"a stream":             {"select * from events where stream_id = $1 and version > 0 order by version limit 1000", "events_stream_id_version_key"},
		"the log":              {"select * from events where position > 7 and $1 <> '' order by position limit 1000", "events_pkey"},
		"requested executions": {"select * from events where type = 'execution.requested' and position > 7 and $1 <> '' order by position limit 8", "events_requested"},
	} {
		text := f.plan(t, strings.ReplaceAll(c.query, "$1", "'"+uuid.Nil.String()+"'"))
		require.Contains(t, text, c.index, name)
		require.NotContains(t, text, "Sort", name)
	}
}

// plan explains how Postgres would run a query if it could not scan or sort: the tables here are empty, where that is
// always cheapest, and the question is which index can serve the query at all.
func (f fixture) plan(t *testing.T, query string) string {
	t.Helper()
	tx, err := f.store.Pool().Begin(f.ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(f.ctx) }()
	_, err = tx.Exec(f.ctx, "set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off")
	require.NoError(t, err)
	rows, err := tx.Query(f.ctx, "explain "+query)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, query)
	return strings.Join(lines, "\n")
}

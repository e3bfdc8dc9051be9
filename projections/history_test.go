package projections_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

func (f fixture) history(archive eventstore.Archive) *projections.History {
	return projections.NewHistory(f.store.Pool(), storetest.Codec(f.store), archive)
}

// asOf returns the queries as of a position.
func (f fixture) asOf(t *testing.T, h *projections.History, at projections.Position) *projections.Queries {
	t.Helper()
	queries, moment, err := h.AsOf(f.ctx, uuid.Nil, projections.Moment{Position: at})
	require.NoError(t, err)
	require.Equal(t, projections.Moment{Position: at}, moment)
	return queries
}

// shelf is an archive.
type shelf map[projections.Position][]byte

func (s shelf) Payload(_ context.Context, position projections.Position) ([]byte, error) {
	return s[position], nil
}

// archiveLines moves the payloads of all log lines from the log to an archive.
func (f fixture) archiveLines(t *testing.T) shelf {
	t.Helper()
	archive := shelf{}
	err := pgx.BeginFunc(f.ctx, f.store.Pool(), func(tx pgx.Tx) error {
		rows, err := tx.Query(f.ctx, "select position, data from events where type = 'execution.log_line'")
		require.NoError(t, err)
		var position projections.Position
		var data []byte
		_, err = pgx.ForEachRow(rows, []any{&position, &data}, func() error {
			archive[position] = data
			data = nil
			return nil
		})
		require.NoError(t, err)
		_, err = tx.Exec(f.ctx, "set local session_replication_role = replica") // past the trigger that refuses it
		require.NoError(t, err)
		_, err = tx.Exec(f.ctx, "update events set data = null where type = 'execution.log_line'")
		return err
	})
	require.NoError(t, err)
	return archive
}

func TestWhatWasArchivedIsReadFromTheArchive(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	owner := uuid.New()
	id := f.run(t, owner, f.function(t, owner, "hello"), "1", done("2"), "first", "second")
	all := projections.Audit{Limit: 100}
	before, err := f.history(nil).Audit(f.ctx, owner, all)
	require.NoError(t, err)
	archive := f.archiveLines(t)
	require.Len(t, archive, 2)

	page, err := f.history(archive).Audit(f.ctx, owner, all)
	require.NoError(t, err)
	require.Equal(t, before, page)
	logs, err := f.asOf(t, f.history(archive), f.head(t)).Logs.Get(f.ctx, owner, id)
	require.NoError(t, err)
	require.Equal(t, "first\nsecond\n", logs.Logs)

	// Without it the facts are still there, and say what is missing.
	page, err = f.history(nil).Audit(f.ctx, owner, projections.Audit{Types: []string{"execution.log_line"}, Limit: 100})
	require.NoError(t, err)
	require.Len(t, page.Items, 2)
	for _, entry := range page.Items {
		text, err := json.Marshal(entry)
		require.NoError(t, err)
		require.Contains(t, string(text), `"data":null,"archived":true`)
	}
	execution, err := f.asOf(t, f.history(nil), f.head(t)).Executions.Get(f.ctx, owner, id)
	require.NoError(t, err)
	require.Equal(t, domain.ExecutionSuccess, execution.Status)
	require.Empty(t, execution.Logs)
	require.True(t, execution.LogsArchived)
	require.Contains(t, execution.LogsMissing, "2 lines were moved to the archive")
	delete(archive, slices.Max(slices.Collect(maps.Keys(archive))))
	logs, err = f.history(archive).Logs(f.ctx, owner, id)
	require.NoError(t, err)
	require.Equal(t, "first\n", logs.Logs, "what there is")
	require.Contains(t, logs.Missing, "1 line was moved to the archive")
	_, err = f.history(archive).Logs(f.ctx, uuid.New(), id)
	require.True(t, domain.IsCode(err, domain.NotFound))
}

func TestAnArchiveThatWasTamperedWithIsNotBelieved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	owner := uuid.New()
	f.run(t, owner, f.function(t, owner, "hello"), "1", done("2"), "first", "second")
	archive := f.archiveLines(t)
	plain := append([]byte{0}, strings.Repeat("s", 16)+`{"stream":"stdout","text":"forged","at":"2026-11-23T12:00:00Z"}`...)
	for position := range maps.Keys(archive) {
		forged := maps.Clone(archive)
		forged[position] = plain
		_, err := f.history(forged).Audit(f.ctx, owner, projections.Audit{Limit: 100})
		require.ErrorContains(t, err, "another payload")
	}
}

func TestWhatWasErasedIsStillToldAsAFact(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	owner := uuid.New()
	f.function(t, owner, "secret")
	require.NoError(t, f.store.Erase(f.ctx, owner))
	page, err := f.history(nil).Audit(f.ctx, owner, projections.Audit{Limit: 100})
	require.NoError(t, err)
	text, err := json.Marshal(page.Items)
	require.NoError(t, err)
	require.Contains(t, string(text), `"data":null,"erased":true`)
	require.NotContains(t, string(text), "secret")
	functions, err := f.asOf(t, f.history(nil), f.head(t)).Functions.List(f.ctx, owner, projections.PageRequest{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, functions.Items)
}

// However rarely something happened, a page looks at so much and no more; the pages together leave nothing out.
func TestAPageOfARareThingIsShortAndTheNextOnesFindIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	function := f.function(t, owner, "hello")
	failed := f.run(t, owner, function, "1", domain.ExecutionFailed{Error: "no", ErrorType: "Error"})
	projectionstest.Fill(t, f.store.Pool(), projectionstest.Filling{Account: owner, Share: 1, Function: function, Events: 21_000, Line: 10})
	f.caughtUp(t)

	var found []projections.Entry
	pages := 0
	for a := (projections.Audit{ActorKind: domain.ActorSystem, Limit: 10}); ; pages++ {
		page, err := f.history(nil).Audit(f.ctx, owner, a)
		require.NoError(t, err)
		found = append(found, page.Items...)
		if a.After = page.Next; page.Next == 0 {
			break
		}
	}
	require.Equal(t, 4, pages)
	require.Len(t, found, 2)
	require.Equal(t, "function.created", found[1].Type)

	past := f.asOf(t, f.history(nil), f.head(t))
	var executions []projections.Execution
	pages = 0
	for part := (projections.PageRequest{Limit: 10}); ; pages++ {
		page, err := past.Executions.List(f.ctx, owner, projections.ExecutionFilter{Status: domain.ExecutionFailure}, part)
		require.NoError(t, err)
		executions = append(executions, page.Items...)
		if part.Before = page.Next; page.Next == 0 {
			break
		}
	}
	require.Equal(t, 1, pages)
	require.Len(t, executions, 1)
	require.Equal(t, failed, executions[0].ID)
}

func TestALargePageOfThePastEndsWhereTheLiveOneDoes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	large, chatty := f.function(t, owner, "large"), f.function(t, owner, "chatty")
	lines := strings.Split(strings.Repeat(strings.Repeat("x", 16<<10)+"\n", 64), "\n")
	for i := range 10 {
		if i%3 == 0 {
			f.run(t, owner, large, "1", done(`"`+strings.Repeat("x", 3<<20)+`"`))
			f.run(t, owner, chatty, "1", done("1"), lines...)
		}
		_, _, err := f.CreateFunction.Handle(f.ctx, system, domain.CreateFunction{
			AccountID: owner, Name: "large", Runtime: "nodejs", Code: strings.Repeat("x", domain.MaxCodeBytes),
		})
		require.NoError(t, err)
	}
	f.caughtUp(t)
	past := f.asOf(t, f.history(nil), f.head(t))
	requireSamePages(t, func(part projections.PageRequest, live bool) (projections.Page[projections.Execution], error) {
		if live {
			return f.Executions.List(f.ctx, owner, projections.ExecutionFilter{}, part)
		}
		return past.Executions.List(f.ctx, owner, projections.ExecutionFilter{}, part)
	})
	requireSamePages(t, func(part projections.PageRequest, live bool) (projections.Page[projections.Function], error) {
		if live {
			return f.Functions.List(f.ctx, owner, part)
		}
		return past.Functions.List(f.ctx, owner, part)
	})
}

// requireSamePages wants several pages, the same ones live and of the past. It does not print them, which are large.
func requireSamePages[T any](t *testing.T, read func(part projections.PageRequest, live bool) (projections.Page[T], error)) {
	t.Helper()
	for part := (projections.PageRequest{Limit: 50}); ; {
		live, err := read(part, true)
		require.NoError(t, err)
		then, err := read(part, false)
		require.NoError(t, err)
		require.Equal(t, len(live.Items), len(then.Items))
		require.Equal(t, live.Next, then.Next)
		require.True(t, assert.ObjectsAreEqual(live, then))
		if part.Before = live.Next; live.Next == 0 {
			require.Less(t, len(live.Items), 8)
			return
		}
	}
}

// A page of many executions that printed much must not look through all lines again for each of them.
func TestTheLinesOfThePastAreGatheredOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	owner := uuid.New()
	function := f.function(t, owner, "hello")
	projectionstest.Fill(t, f.store.Pool(), projectionstest.Filling{Account: owner, Share: 1, Function: function, Events: 400, Line: 10})
	sent := &wire{Database: f.store.Pool()}
	past := f.asOf(t, projections.NewHistory(sent, storetest.Codec(f.store), nil), f.head(t))
	page, err := past.Executions.List(f.ctx, owner, projections.ExecutionFilter{}, projections.PageRequest{Limit: 30})
	require.NoError(t, err)
	require.Len(t, page.Items, 30)
	for _, node := range f.explain(t, sent.sent[len(sent.sent)-1]).all() {
		if node.Node == "CTE Scan" {
			require.LessOrEqual(t, node.Rows+node.Removed, float64(31), "a look at more rows than there are executions")
		}
	}
}

func TestWhatIsOnlyOfTheNowCannotBeReadOfThePast(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	past := f.asOf(t, f.history(nil), 0)
	_, err := past.Executions.Running(f.ctx)
	require.Error(t, err)
	_, err = past.Keys.Find(f.ctx, "vr_123456789", nil)
	require.Error(t, err)
	_, err = past.Accounts.Get(f.ctx, uuid.New())
	require.Error(t, err)
}

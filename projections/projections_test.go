package projections_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

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
	page, err := f.Functions.List(f.ctx, owner, projections.PageRequest{Limit: 10})
	require.NoError(t, err)
	list := page.Items
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

func TestAKeyIsFoundByItsHashUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	made, err := f.CreateKey.Handle(f.ctx, system, owner, "ci", &expires)
	require.NoError(t, err)
	used := time.Now().UTC().Truncate(time.Microsecond)
	require.NoError(t, f.NoteKeyUse.Handle(f.ctx, commands.KeyUse{AccountID: owner, KeyID: made.ID, At: used}))
	f.caughtUp(t)
	key, err := f.Keys.Find(f.ctx, made.Prefix, commands.HashKey(made.Key))
	require.NoError(t, err)
	require.Equal(t, made.ID, key.ID)
	require.Equal(t, expires, *key.ExpiresAt)
	require.Equal(t, used, *key.LastUsed)
	_, err = f.Keys.Find(f.ctx, made.Prefix, commands.HashKey("another key"))
	require.True(t, domain.IsCode(err, domain.Unauthorized), "the prefix alone opens nothing")
	list, err := f.Keys.List(f.ctx, owner, projections.PageRequest{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, projections.Page[projections.Key]{Items: []projections.Key{key}}, list)

	_, err = f.DeleteKey.Handle(f.ctx, system, domain.DeleteKey{KeyID: made.ID, AccountID: owner})
	require.NoError(t, err)
	f.caughtUp(t)
	_, err = f.Keys.Find(f.ctx, made.Prefix, commands.HashKey(made.Key))
	require.True(t, domain.IsCode(err, domain.Unauthorized))
}

package projections_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

// walk reads a list from its newest item to its end, limit by limit, and wants every page but the last one full.
func walk[T any](t *testing.T, limit int, read func(projections.PageRequest) (projections.Page[T], error)) (items []T) {
	t.Helper()
	part := projections.PageRequest{Limit: limit}
	for {
		page, err := read(part)
		require.NoError(t, err)
		items = append(items, page.Items...)
		if page.Next == 0 {
			return items
		}
		require.Len(t, page.Items, limit)
		part.Before = page.Next
	}
}

// walkExecutions returns the ids of the executions on all pages of a list.
func (f fixture) walkExecutions(t *testing.T, owner uuid.UUID, limit int, filter projections.ExecutionFilter) (ids []uuid.UUID) {
	t.Helper()
	executions := walk(t, limit, func(part projections.PageRequest) (projections.Page[projections.Execution], error) {
		return f.Executions.List(f.ctx, owner, filter, part)
	})
	for _, x := range executions {
		ids = append(ids, x.ID)
	}
	return ids
}

func TestPagesFollowEachOtherWithoutGapOrRepeat(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	a, b := f.function(t, owner, "a"), f.function(t, owner, "b")
	var ofA, failed, failedOfA, all []uuid.UUID
	for i := range 25 {
		function, end := a, done("1")
		if i%2 == 1 {
			function = b
		}
		if i%5 == 0 {
			end = domain.ExecutionFailed{Error: "no", ErrorType: "Error"}
		}
		id := f.run(t, owner, function, "1", end)
		all = slices.Insert(all, 0, id)
		if function == a {
			ofA = slices.Insert(ofA, 0, id)
		}
		if i%5 == 0 {
			failed = slices.Insert(failed, 0, id)
		}
		if function == a && i%5 == 0 {
			failedOfA = slices.Insert(failedOfA, 0, id)
		}
	}
	f.caughtUp(t)
	require.Equal(t, all, f.walkExecutions(t, owner, 7, projections.ExecutionFilter{}))
	require.Equal(t, all, f.walkExecutions(t, owner, 25, projections.ExecutionFilter{}))
	require.Equal(t, ofA, f.walkExecutions(t, owner, 4, projections.ExecutionFilter{FunctionID: a}))
	require.Equal(t, failed, f.walkExecutions(t, owner, 2, projections.ExecutionFilter{Status: domain.ExecutionFailure}))
	require.Equal(t, failedOfA, f.walkExecutions(t, owner, 2, projections.ExecutionFilter{FunctionID: a, Status: domain.ExecutionFailure}))
	require.Empty(t, f.walkExecutions(t, owner, 2, projections.ExecutionFilter{Status: domain.ExecutionPending}))
	require.Empty(t, f.walkExecutions(t, uuid.New(), 2, projections.ExecutionFilter{FunctionID: a}), "somebody else's function")
}

func TestFunctionsAndKeysHavePagesToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	var functions, keys []uuid.UUID
	for range 7 {
		functions = slices.Insert(functions, 0, f.function(t, owner, "f"))
		key, err := f.CreateKey.Handle(f.ctx, system, owner, "k", nil)
		require.NoError(t, err)
		keys = slices.Insert(keys, 0, key.ID)
	}
	f.caughtUp(t)
	for _, limit := range []int{1, 3, 7, 1000} {
		var gotFunctions, gotKeys []uuid.UUID
		for _, function := range walk(t, limit, func(part projections.PageRequest) (projections.Page[projections.Function], error) {
			return f.Functions.List(f.ctx, owner, part)
		}) {
			gotFunctions = append(gotFunctions, function.ID)
		}
		for _, key := range walk(t, limit, func(part projections.PageRequest) (projections.Page[projections.Key], error) {
			return f.Keys.List(f.ctx, owner, part)
		}) {
			gotKeys = append(gotKeys, key.ID)
		}
		require.Equal(t, functions, gotFunctions, limit)
		require.Equal(t, keys, gotKeys, limit)
	}
}

// requireCut wants a list of three large items to come on a page of two and a page of one.
func requireCut[T any](t *testing.T, read func(projections.PageRequest) (projections.Page[T], error)) {
	t.Helper()
	first, err := read(projections.PageRequest{Limit: 50})
	require.NoError(t, err)
	require.Equal(t, 2, len(first.Items), "not Len, which would print them")
	require.NotZero(t, first.Next)
	second, err := read(projections.PageRequest{Limit: 50, Before: first.Next})
	require.NoError(t, err)
	require.Equal(t, 1, len(second.Items))
	require.Zero(t, second.Next)
}

func TestAPageEndsEarlyWhenItsResultsAreLarge(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	large, chatty := f.function(t, owner, "large"), f.function(t, owner, "chatty")
	lines := slices.Repeat([]string{strings.Repeat("x", 1<<20)}, 5)
	for range 3 {
		f.run(t, owner, large, "1", done(`"`+strings.Repeat("x", 5<<20)+`"`))
		f.run(t, owner, chatty, "1", done("1"), lines...)
	}
	f.caughtUp(t)
	for _, function := range []uuid.UUID{large, chatty} {
		requireCut(t, func(part projections.PageRequest) (projections.Page[projections.Execution], error) {
			return f.Executions.List(f.ctx, owner, projections.ExecutionFilter{FunctionID: function}, part)
		})
	}
}

func TestAPageOfFunctionsEndsEarlyWhenTheirCodeIsLarge(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	for range 10 {
		_, _, err := f.CreateFunction.Handle(f.ctx, system, domain.CreateFunction{
			AccountID: owner, Name: "large", Runtime: "nodejs", Code: strings.Repeat("x", domain.MaxCodeBytes),
		})
		require.NoError(t, err)
	}
	f.caughtUp(t)
	page, err := f.Functions.List(f.ctx, owner, projections.PageRequest{Limit: 1000})
	require.NoError(t, err)
	require.Equal(t, 8, len(page.Items), "not Len, which would print them")
	rest, err := f.Functions.List(f.ctx, owner, projections.PageRequest{Limit: 1000, Before: page.Next})
	require.NoError(t, err)
	require.Equal(t, 2, len(rest.Items))
	require.Zero(t, rest.Next)
}

// A page that ends early must not have read the logs behind its end: a list of chatty executions would take as long as
// all of them do.
func TestOnlyTheLogsOnAPageAreRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner := uuid.New()
	function := f.function(t, owner, "chatty")
	for range 4 {
		f.run(t, owner, function, "1", done("1"), slices.Repeat([]string{strings.Repeat("x", 1<<20)}, 5)...)
	}
	f.caughtUp(t)
	plan := f.plan(t, func(ctx context.Context, q *projections.Queries) error {
		_, err := q.Executions.List(ctx, owner, projections.ExecutionFilter{}, projections.PageRequest{Limit: 50})
		return err
	})
	// Two looks into the logs: one measures the four executions, the other reads those of the two on the page.
	require.Equal(t, []int{4, 2}, plan.loopsOn("execution_logs"))
}

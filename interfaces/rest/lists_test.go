package rest

import (
	"math"
	"net/url"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

func TestACursorComesBackAsItWasGiven(t *testing.T) {
	t.Parallel()
	for _, position := range []projections.Position{1, 255, 256, 1 << 40, math.MaxInt64} {
		got, ok := parseCursor(encodeCursor(position))
		require.True(t, ok)
		require.Equal(t, position, got)
	}
}

func TestACursorOfOnesOwnMakingIsRefused(t *testing.T) {
	t.Parallel()
	for _, cursor := range []string{"1", "abc", "AAAAAAAAAAA", encodeCursor(-1), encodeCursor(1) + "A", encodeCursor(1) + "=", "AAAAAAAAAAF", "é", "\x00"} {
		_, ok := parseCursor(cursor)
		require.False(t, ok, cursor)
	}
}

func listOf(values url.Values) *listQuery { return &listQuery{values: values} }

func TestAListHasDefaultsAndTakesEveryValue(t *testing.T) {
	t.Parallel()
	filter, part, err := parseExecutionList(listOf(url.Values{"function_id": {""}, "status": {""}, "limit": {""}, "cursor": {""}, "_": {"7"}}))
	require.NoError(t, err)
	require.Equal(t, projections.ExecutionFilter{}, filter)
	require.Equal(t, projections.PageRequest{Limit: 50}, part)

	id := uuid.New()
	filter, part, err = parseExecutionList(listOf(url.Values{
		"function_id": {id.String()}, "status": {"failed"}, "limit": {"200"}, "cursor": {encodeCursor(7)},
	}))
	require.NoError(t, err)
	require.Equal(t, projections.ExecutionFilter{FunctionID: id, Status: domain.ExecutionFailure}, filter)
	require.Equal(t, projections.PageRequest{Limit: 200, Before: 7}, part)
}

func TestAListNamesEveryParameterThatIsWrong(t *testing.T) {
	t.Parallel()
	_, _, err := parseExecutionList(listOf(url.Values{"function_id": {"7"}, "status": {"done"}, "limit": {"201"}, "cursor": {"x"}}))
	var refusal *domain.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, []domain.FieldError{
		{Field: "function_id", Message: `function_id must be the id of a function, but is "7".`},
		{Field: "status", Message: `status must be pending, running, success or failed, but is "done".`},
		{Field: "limit", Message: `limit must be between 1 and 200, but is "201".`},
		{Field: "cursor", Message: `cursor must be one that a Link header gave, but is "x".`},
	}, refusal.Fields)
	_, _, err = parseExecutionList(listOf(url.Values{"status": {"failed", "failed"}, "limit": {"1", "x"}}))
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, []domain.FieldError{
		{Field: "status", Message: "status must be given once, but is given 2 times."},
		{Field: "limit", Message: "limit must be given once, but is given 2 times."},
	}, refusal.Fields)
	for _, limit := range []string{"0", "-1", "1.5", "1e2", "many", " 7", "99999999999999999999"} {
		_, _, err := parseExecutionList(listOf(url.Values{"limit": {limit}}))
		require.True(t, domain.IsCode(err, domain.Invalid), limit)
	}
}

package domain_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

var (
	owner  = uuid.New()
	create = domain.CreateFunction{
		FunctionID: uuid.New(), AccountID: owner, Name: "hello", Runtime: "nodejs", Code: "exports.handler = () => 1",
		Available: []string{"nodejs", "nodejs20", "python"},
	}
	created = domain.FunctionCreated{
		FunctionID: create.FunctionID, AccountID: owner, Name: "hello", Runtime: "nodejs", Code: create.Code,
		EntryPoint: "index.handler", MemoryMB: 128, TimeoutSec: 30,
	}
)

func TestAFunctionGetsItsDefaults(t *testing.T) {
	given[domain.Function]().then(t, create.Decide, created)
	f := domain.Fold[domain.Function](created)
	require.Equal(t, domain.FunctionActive, f.Status)
	require.Equal(t, 1, f.Version)
}

func TestANewFunctionIsCheckedFieldByField(t *testing.T) {
	for field, change := range map[string]func(*domain.CreateFunction){
		"name":        func(c *domain.CreateFunction) { c.Name = "" },
		"description": func(c *domain.CreateFunction) { c.Description = strings.Repeat("x", 1001) },
		"runtime":     func(c *domain.CreateFunction) { c.Runtime = "ruby" },
		"code":        func(c *domain.CreateFunction) { c.Code = " \n" },
		"entry_point": func(c *domain.CreateFunction) { c.EntryPoint = ptr("../etc/passwd") },
		"memory_mb":   func(c *domain.CreateFunction) { c.MemoryMB = ptr(63) },
		"timeout_sec": func(c *domain.CreateFunction) { c.TimeoutSec = ptr(901) },
	} {
		cmd := create
		change(&cmd)
		require.Equal(t, []string{field}, fieldsOf(given[domain.Function]().refused(t, domain.Invalid, cmd.Decide)), field)
	}
}

func TestLimitsIncludeTheirEnds(t *testing.T) {
	for memory, timeout := range map[int]int{64: 1, 3008: 900} {
		cmd := create
		cmd.MemoryMB, cmd.TimeoutSec = &memory, &timeout
		_, err := cmd.Decide(domain.Function{})
		require.NoError(t, err)
	}
}

func TestARuntimeThatTheHostLacksIsRefusedWithThoseItHas(t *testing.T) {
	cmd := create
	cmd.Runtime = "nodejs18"
	refusal := given[domain.Function]().refused(t, domain.Invalid, cmd.Decide)
	require.Contains(t, refusal.Message, `"nodejs18" is not installed`)
	require.Contains(t, refusal.Message, "nodejs, nodejs20, python")
}

func TestAChangeKeepsWhatItDoesNotName(t *testing.T) {
	changes := domain.FunctionChanges{Description: ptr("says hello"), TimeoutSec: ptr(5)}
	update := domain.UpdateFunction{FunctionID: create.FunctionID, AccountID: owner, Changes: changes}
	updated := domain.FunctionUpdated{FunctionChanges: changes}
	given[domain.Function](created).then(t, update.Decide, updated)

	f := domain.Fold[domain.Function](created, updated)
	require.Equal(t, "hello", f.Name)
	require.Equal(t, "says hello", f.Description)
	require.Equal(t, 5, f.TimeoutSec)
	require.Equal(t, 2, f.Version)
	given[domain.Function](created, updated).then(t, update.Decide) // nothing new: no event
}

func TestOnlyItsOwnerSeesAFunction(t *testing.T) {
	stranger := uuid.New()
	for _, history := range [][]domain.Event{{}, {created}, {created, domain.FunctionDeleted{}}} {
		who := stranger
		if len(history) != 1 {
			who = owner
		}
		state := given[domain.Function](history...)
		state.refused(t, domain.NotFound, domain.UpdateFunction{FunctionID: create.FunctionID, AccountID: who}.Decide)
		state.refused(t, domain.NotFound, domain.DeleteFunction{FunctionID: create.FunctionID, AccountID: who}.Decide)
		request := domain.RequestExecution{AccountID: who, FunctionID: create.FunctionID, Function: state.state}
		given[domain.Execution]().refused(t, domain.NotFound, request.Decide)
	}
}

func TestStatusIsOneOfThree(t *testing.T) {
	for status, good := range map[domain.FunctionStatus]bool{"inactive": true, "error": true, "paused": false, "": false} {
		_, err := domain.UpdateFunction{AccountID: owner, Changes: domain.FunctionChanges{Status: &status}}.Decide(domain.Fold[domain.Function](created))
		require.Equal(t, good, err == nil, "%q: %v", status, err)
	}
}

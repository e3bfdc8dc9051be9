package domain_test

import (
	"testing"

	"github.com/voltrun/voltrun/guardtest"
)

func TestEveryGuardOfTheDomainIsMissedWhenItIsGone(t *testing.T) {
	t.Parallel()
	const (
		folds     = "TestFoldsArePureOverAnyEvents"
		register  = "TestARegistrationIsTakenLetterByLetterOrRefused"
		email     = "TestAnEmailAddressStaysTheFirstOnes"
		session   = "TestARefreshTokenBuysOneSuccessorOrTheEnd"
		function  = "TestAFunctionIsWhatItsOwnerAskedFor"
		execution = "TestAnExecutionEndsOnceAndTakesNothingAfterwards"
		key       = "TestAKeyIsItsOwnersUntilItIsDeleted"
	)
	guardtest.Run(t, []guardtest.Guard{
		{Name: "an address is taken once", File: "account.go", Code: "r.AccountID != uuid.Nil", Without: "false", CaughtBy: email},
		{Name: "a registration is checked", File: "account.go", Code: "checks.name(\"name\", c.Name)", CaughtBy: "TestARegistrationNamesEveryWrongField"},
		{Name: "letter case tells no addresses apart", File: "account.go", Code: "strings.ToLower(email)", Without: "email", CaughtBy: email},

		{Name: "a session id is used once", File: "session.go", Code: "s.ID != uuid.Nil", Without: "false", CaughtBy: session},
		{Name: "a session must exist", File: "session.go", Code: "s.ID == uuid.Nil", Without: "false", CaughtBy: "TestNobodyRefreshesASessionThatNeverWas"},
		{Name: "a revoked session stays revoked", File: "session.go", In: "|| s.Revoked ||", Code: "s.Revoked", Without: "false", CaughtBy: session},
		{Name: "a session ends in time", File: "session.go", Code: "!c.Now.Before(s.ExpiresAt)", Without: "false", CaughtBy: session},
		{
			Name: "a token that comes again ends the family", File: "session.go", CaughtBy: session,
			Code: "slices.ContainsFunc(s.Exchanged, c.presents)", Without: "false",
		},
		{
			Name: "a guessed token is refused", File: "session.go", CaughtBy: session,
			Code: "c.Presented != nil && !c.presents(s.TokenHash)", Without: "false",
		},
		{Name: "states share no memory", File: "session.go", Code: "slices.Clip(s.Exchanged)", Without: "s.Exchanged", CaughtBy: folds},

		{Name: "a function is its owner's", File: "function.go", Code: "f.AccountID == accountID", Without: "true", CaughtBy: function},
		{Name: "a deleted function is gone", File: "function.go", Code: "!f.Deleted", Without: "true", CaughtBy: function},
		{
			Name: "a function id is used once", File: "function.go", CaughtBy: function,
			In: "if f.ID != uuid.Nil {", Code: "f.ID != uuid.Nil", Without: "false",
		},
		{Name: "versions count", File: "function.go", Code: "f.Version++", CaughtBy: function},
		{Name: "a change is checked", File: "function.go", Code: "checks.function(changed)", CaughtBy: function},
		{Name: "a new function is checked", File: "function.go", Code: "checks.function(created)", CaughtBy: function},
		{Name: "a change that changes nothing is no event", File: "function.go", Code: "changed == f", Without: "false", CaughtBy: function},

		{Name: "only an active function runs", File: "execution.go", Code: "f.Status != FunctionActive", Without: "false", CaughtBy: function},
		{
			Name: "only its owner runs a function", File: "execution.go", CaughtBy: function,
			Code: "!f.ownedBy(c.AccountID)", Without: "false",
		},
		{Name: "an execution id is used once", File: "execution.go", Code: "x.ID != uuid.Nil", Without: "false", CaughtBy: execution},
		{Name: "only a pending execution is claimed", File: "execution.go", Code: "x.Status != ExecutionPending", Without: "false", CaughtBy: execution},
		{Name: "only a running execution is reported on", File: "execution.go", Code: "x.Status != ExecutionRunning", Without: "false", CaughtBy: execution},
		{Name: "only the holder reports", File: "execution.go", Code: "x.WorkerID != c.WorkerID", Without: "false", CaughtBy: execution},
		{
			Name: "only the lost worker's execution is abandoned", File: "execution.go", CaughtBy: execution,
			Code: "x.Status == ExecutionRunning && x.WorkerID == c.WorkerID", Without: "x.Status == ExecutionRunning",
		},
		{
			Name: "an ended execution is not abandoned", File: "execution.go", CaughtBy: execution,
			Code: "!lost && !unclaimed", Without: "x.Status == ExecutionPending && !unclaimed",
		},
		{
			Name: "an input is checked", File: "execution.go", CaughtBy: "TestAnInputIsTakenAsItIsOrRefused",
			Code: `CheckJSON("input", input, MaxInputBytes)`, Without: "error(nil)",
		},
		{Name: "nesting is bounded", File: "validate.go", Code: "depth <= MaxJSONDepth", Without: "true", CaughtBy: "TestInputsAreBounded"},
		{Name: "size is bounded", File: "validate.go", Code: "len(data) > maxBytes", Without: "false", CaughtBy: "TestInputsAreBounded"},
		{
			Name: "names show what they are", File: "validate.go", CaughtBy: function,
			Code: "!strings.ContainsFunc(value, invisible)", Without: "true",
		},

		{Name: "a key is its owner's", File: "apikey.go", Code: "k.AccountID != c.AccountID", Without: "false", CaughtBy: key},
		{Name: "a deleted key is gone", File: "apikey.go", In: "|| k.Deleted ||", Code: "k.Deleted", Without: "false", CaughtBy: key},
		{Name: "a key id is used once", File: "apikey.go", Code: "k.ID != uuid.Nil", Without: "false", CaughtBy: key},
		{Name: "a key does not start out expired", File: "apikey.go", Code: "c.ExpiresAt.After(c.Now)", Without: "true", CaughtBy: key},
	}, "RAPID_CHECKS=300")
}

package commands_test

import (
	"testing"

	"github.com/voltrun/voltrun/guardtest"
)

func TestEveryGuardOfTheCommandsIsMissedWhenItIsGone(t *testing.T) {
	t.Parallel()
	const crowd = "TestNobodyWritesIntoAnothersHistory"
	guardtest.Run(t, []guardtest.Guard{
		{
			Name: "a decision is written at the version that it saw", File: "journal.go", Code: "eventstore.Exactly(h.version)",
			Without: "eventstore.Any", CaughtBy: "TestARefreshTokenPresentedManyTimesAtOnceBuysOneSuccessor",
		},
		{
			Name: "a deletion is written at the version that it saw", File: "journal.go", Code: "eventstore.Exactly(h.version)",
			Without: "eventstore.Any", CaughtBy: "TestAFunctionDeletedManyTimesAtOnceIsDeletedOnce",
		},
		{
			Name: "a claim is written at the version that it saw", File: "claim_execution.go", Code: "eventstore.Exactly(attempt.Version)",
			Without: "eventstore.Any", CaughtBy: "TestAnExecutionClaimedManyTimesAtOnceIsStartedOnce",
		},
		{
			Name: "a worker that lost its hold is fenced", File: "claim_execution.go", Code: "eventstore.Exactly(attempt.Version)",
			Without: "eventstore.Any", CaughtBy: crowd,
		},
		{
			Name: "an address is taken at the version that was seen", File: "register_account.go", Code: "eventstore.Exactly(reservation.version)",
			Without: "eventstore.Any", CaughtBy: "TestAnAddressRegisteredManyTimesAtOnceHasOneAccount",
		},
		{
			Name: "the facts of a refusal are recorded", File: "journal.go", Code: "len(events) == 0",
			Without: "len(events) == 0 || refusal != nil", CaughtBy: "TestAReusedRefreshTokenRevokesItsFamily",
		},
		{
			Name: "who was slower decides again", File: "journal.go", Code: "eventstore.IsConflict(err)",
			Without: "false", CaughtBy: "TestAChangeThatComesSecondIsDecidedAgain",
		},
		{
			Name: "an execution runs the version that was asked for", File: "function_cache.go", Code: "newest.version <= until",
			Without: "true", CaughtBy: "TestAnExecutionThatWaitedRunsTheVersionThatWasAsked",
		},
		{
			Name: "a login needs the password", File: "log_in.go", Code: "!ok", Without: "false", CaughtBy: "TestALoginNeedsTheAddressAndThePassword",
		},
		{
			Name: "a login needs an account", File: "passwords.go", Code: "err == nil && hash != nil", Without: "hash == nil || err == nil",
			CaughtBy: "TestALoginNeedsTheAddressAndThePassword",
		},
		{
			Name: "a refresh token has its form", File: "refresh_token.go", Code: "len(raw) != len(t.sessionID)+len(t.secret)", Without: "false",
			CaughtBy: "TestMalformedRefreshTokensAreRefused",
		},
	})
}

package domain_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

var (
	worker  = uuid.New()
	request = domain.RequestExecution{
		ExecutionID: uuid.New(), AccountID: owner, FunctionID: create.FunctionID, Function: domain.Fold[domain.Function](created),
		Input: json.RawMessage(`{ "name": "Ada" }`),
	}
	requested = domain.ExecutionRequested{
		ExecutionID: request.ExecutionID, AccountID: owner, FunctionID: create.FunctionID, FunctionVersion: 1, FunctionName: "hello",
		Runtime: "nodejs", Input: json.RawMessage(`{"name":"Ada"}`),
	}
	claimed   = domain.ExecutionStarted{WorkerID: worker}
	completed = domain.ExecutionCompleted{Output: json.RawMessage("1"), DurationMS: 5, MemoryMB: 40}
	lost      = domain.ExecutionFailed{Error: "The worker was lost.", ErrorType: domain.ErrorWorkerLost}
)

func TestAnExecutionRemembersTheVersionThatItRuns(t *testing.T) {
	given[domain.Execution]().then(t, request.Decide, requested)
}

func TestAnAbsentInputIsTheEmptyObject(t *testing.T) {
	cmd, want := request, requested
	cmd.Input, want.Input = nil, json.RawMessage("{}")
	given[domain.Execution]().then(t, cmd.Decide, want)
}

func TestAnInactiveFunctionDoesNotRun(t *testing.T) {
	cmd := request
	cmd.Function.Status = domain.FunctionInactive
	given[domain.Execution]().refused(t, domain.Conflict, cmd.Decide)
}

func TestInputsAreBounded(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for name, c := range map[string]struct {
		input string
		code  domain.Code
	}{
		"any value":       {`"text with [[[ and \" in it"`, ""},
		"null":            {`null`, ""},
		"escaped NUL":     {`{"a":"\u0000"}`, ""},
		"deepest allowed": {deep(domain.MaxJSONDepth), ""},
		"too deep":        {deep(domain.MaxJSONDepth + 1), domain.Invalid},
		"absurdly deep":   {strings.Repeat(`{"a":`, 1_000_000), domain.Invalid},
		"too large":       {`"` + strings.Repeat("x", domain.MaxInputBytes) + `"`, domain.TooLarge},
		"not JSON":        {`{a:1}`, domain.Invalid},
		"two values":      {`1 2`, domain.Invalid},
		"invalid UTF-8":   {"\"\xff\"", domain.Invalid},
	} {
		cmd := request
		cmd.Input = json.RawMessage(c.input)
		_, err := cmd.Decide(domain.Execution{})
		if c.code == "" {
			require.NoError(t, err, name)
		} else {
			require.True(t, domain.IsCode(err, c.code), "%s: %v", name, err)
		}
	}
}

func TestAnExecutionIsClaimedOnce(t *testing.T) {
	claim := domain.StartExecution{WorkerID: worker}
	given[domain.Execution](requested).then(t, claim.Decide, claimed)
	for _, history := range [][]domain.Event{{}, {requested, claimed}, {requested, claimed, completed}, {requested, lost}} {
		given[domain.Execution](history...).refused(t, domain.Conflict, claim.Decide)
	}
}

func TestOnlyTheWorkerThatHoldsItReports(t *testing.T) {
	line := domain.ExecutionLogLine{Stream: domain.Stdout, Text: "hi", At: now}
	report := domain.ReportExecution{WorkerID: worker, Lines: []domain.ExecutionLogLine{line}, End: completed}
	given[domain.Execution](requested, claimed).then(t, report.Decide, line, completed)

	stranger := report
	stranger.WorkerID = uuid.New()
	given[domain.Execution](requested, claimed).refused(t, domain.Conflict, stranger.Decide)
	given[domain.Execution](requested).refused(t, domain.Conflict, report.Decide)
	given[domain.Execution](requested, claimed, lost).refused(t, domain.Conflict, report.Decide)
	given[domain.Execution](requested, claimed, completed).refused(t, domain.Conflict, report.Decide)
}

func TestAnExecutionIsAbandonedOnlyForTheWorkerThatWasLost(t *testing.T) {
	abandon := domain.AbandonExecution{WorkerID: worker, Failure: lost}
	given[domain.Execution](requested, claimed).then(t, abandon.Decide, lost)
	given[domain.Execution](requested).then(t, abandon.Decide)
	given[domain.Execution](requested, claimed, completed).then(t, abandon.Decide)
	given[domain.Execution](requested, domain.ExecutionStarted{WorkerID: uuid.New()}).then(t, abandon.Decide)

	unclaimable := domain.AbandonExecution{Failure: lost}
	given[domain.Execution](requested).then(t, unclaimable.Decide, lost)
	given[domain.Execution](requested, claimed).then(t, unclaimable.Decide)
}

package rest_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

func TestAnExecutionIsAcceptedRunsAndEnds(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, who := register(t, s)
	function := c.createFunction("hello")
	accepted := c.do("POST", "/api/functions/"+function+"/execute", object{"input": object{"name": "Ada"}}, 201)
	require.Equal(t, []string{"execution_id", "message", "status"}, keys(accepted))
	require.Equal(t, "pending", accepted["status"])
	id := accepted["execution_id"].(string)

	pending := c.do("GET", "/api/executions/"+id, nil, 200)
	require.Subset(t, pending, object{
		"id": id, "user_id": who["user"].(object)["id"], "function_id": function, "status": "pending", "input": object{"name": "Ada"},
		"output": nil, "logs": "", "duration_ms": 0.0, "memory_used": 0.0,
		"function": object{"id": function, "name": "hello", "runtime": "nodejs"},
	})
	require.NotContains(t, pending, "error")
	require.NotContains(t, pending, "started_at")

	work(t, s, id, domain.ExecutionCompleted{Output: json.RawMessage(`"done <b>"`), DurationMS: 12, MemoryMB: 34}, "first", "second")
	ended := c.do("GET", "/api/executions/"+id, nil, 200)
	require.Subset(t, ended, object{
		"status": "success", "output": "done <b>", "logs": "first\nsecond\n", "duration_ms": 12.0, "memory_used": 34.0,
	})
	for _, at := range []string{"created_at", "started_at", "completed_at"} {
		requireTime(t, ended[at])
	}
	require.Equal(t, object{"execution_id": id, "status": "success", "logs": "first\nsecond\n"}, c.do("GET", "/api/executions/"+id+"/logs", nil, 200))
}

func TestAFailedExecutionSaysWhy(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	id := c.execute(c.createFunction("hello"))
	work(t, s, id, domain.ExecutionFailed{Error: "boom", ErrorType: "TypeError", Stack: "at handler (index.js:1:1)"})
	require.Subset(t, c.do("GET", "/api/executions/"+id, nil, 200), object{"status": "failed", "error": "boom", "error_type": "TypeError", "output": nil})
}

func TestWhoeverSeesTheEndOfAnExecutionSeesItsWholeLog(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	function := c.createFunction("hello")
	lines := slices.Repeat([]string{strings.Repeat("x", 1000)}, 500)
	for range 5 {
		id := c.execute(function)
		attempt, err := s.Commands.ClaimExecution.Handle(t.Context(), uuid.MustParse(id), uuid.New())
		require.NoError(t, err)
		var printed []domain.ExecutionLogLine
		for _, line := range lines {
			printed = append(printed, domain.ExecutionLogLine{Stream: domain.Stdout, Text: line, At: time.Now()})
		}
		require.NoError(t, s.Commands.ReportExecution.Handle(t.Context(), attempt, printed, domain.ExecutionCompleted{Output: json.RawMessage("1")}))
		var execution object
		require.Eventually(t, func() bool {
			execution = c.do("GET", "/api/executions/"+id, nil, 200)
			return execution["status"] == "success"
		}, 10*time.Second, time.Millisecond)
		require.Len(t, execution["logs"], 500*1001)
	}
}

func TestTheInputOfAnExecutionMayBeAnyJSONOrAbsent(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	path := "/api/functions/" + c.createFunction("hello") + "/execute"
	deep := strings.Repeat("[", domain.MaxJSONDepth) + strings.Repeat("]", domain.MaxJSONDepth)
	for body, want := range map[string]string{
		"": "{}", "{}": "{}", `{"input":null}`: "null", `{"input":0.1}`: "0.1", `{"input":"text"}`: `"text"`, `{"input":[1,2]}`: "[1,2]",
		`{"input":"\u0000"}`: `"\u0000"`, `{"input":` + deep + `}`: deep,
		`{"input":"` + strings.Repeat("x", domain.MaxInputBytes-2) + `"}`: `"` + strings.Repeat("x", domain.MaxInputBytes-2) + `"`,
	} {
		got := c.call("POST", path, body)
		require.Equal(t, 201, got.StatusCode, "%.300s", got.body)
		s.CatchUp(t) // the largest take their time on a slow machine
		id := decode[object](t, got)["execution_id"].(string)
		execution := decode[struct{ Input json.RawMessage }](t, c.must("GET", "/api/executions/"+id, nil, 200))
		require.True(t, want == string(execution.Input), "%.100s", body)
	}
}

func TestExecutionsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	require.JSONEq(t, "[]", string(c.must("GET", "/api/executions", nil, 200).body))
	first, second := c.createFunction("first"), c.createFunction("second")
	var want []string
	for i := range 7 {
		id := c.execute([]string{first, second}[i%2])
		want = append([]string{id}, want...)
	}
	require.Equal(t, want, c.walk("/api/executions", "limit=3&status=pending"))

	require.Len(t, decode[[]object](t, c.must("GET", "/api/executions?function_id="+second+"&status=&limit=", nil, 200)), 3)
	work(t, s, want[0], nil)
	require.Len(t, decode[[]object](t, c.must("GET", "/api/executions?status=running", nil, 200)), 1)
	require.JSONEq(t, "[]", string(c.must("GET", "/api/executions?function_id="+uuid.NewString(), nil, 200).body))
}

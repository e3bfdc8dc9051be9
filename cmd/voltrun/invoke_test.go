package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// answered is an answer without its body.
type answered struct {
	StatusCode int
	Header     http.Header
}

// send posts a JSON text with headers, and returns the answer and its body.
func (c client) send(t testing.TB, path, body string, headers ...string) (answered, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, c.url+path, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+c.bearer)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return answered{response.StatusCode, response.Header}, string(content)
}

func (c client) invoke(t testing.TB, function uuid.UUID, input string, headers ...string) (answered, string) {
	t.Helper()
	return c.send(t, "/api/functions/"+function.String()+"/invoke", input, headers...)
}

func TestCallsThatWait(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c := s.register(t)

	t.Run("an invocation answers with the output and is recorded like any other", func(t *testing.T) {
		function := c.createFunction(t, "nodejs", `exports.handler = async (e) => { console.log('counted', e.n); return { n: e.n + 1 } }`)
		response, body := c.invoke(t, function, `{"n":41}`)
		require.Equal(t, http.StatusOK, response.StatusCode, body)
		require.JSONEq(t, `{"n":42}`, body)
		require.Equal(t, "success", response.Header.Get("X-VoltRun-Status"))
		tail, err := base64.StdEncoding.DecodeString(response.Header.Get("X-VoltRun-Log-Tail"))
		require.NoError(t, err)
		require.Equal(t, "counted 41\n", string(tail))
		x := c.awaitEnd(t, uuid.MustParse(response.Header.Get("X-VoltRun-Execution-Id")))
		require.JSONEq(t, `{"n":42}`, string(x.Output))
		require.Contains(t, x.Logs, "counted 41")
		require.Equal(t, []string{"execution.requested", "execution.started", "execution.log_line", "execution.completed"}, c.eventTypes(t, x.ID))
	})

	t.Run("any JSON value is an input, and none is the empty object", func(t *testing.T) {
		function := c.createFunction(t, "python", "def handler(event):\n    return event")
		for input, output := range map[string]string{`"text"`: `"text"`, `[1,2]`: `[1,2]`, `null`: `null`, ``: `{}`} {
			_, body := c.invoke(t, function, input)
			require.JSONEq(t, output, body, input)
		}
		response, body := c.invoke(t, function, `{"n":`)
		require.Equal(t, http.StatusBadRequest, response.StatusCode, body)
	})

	t.Run("a failure says what failed, and with a status of its own", func(t *testing.T) {
		throws := c.createFunction(t, "nodejs", `exports.handler = async () => { throw new RangeError('too far') }`)
		response, body := c.invoke(t, throws, `{}`)
		require.Equal(t, http.StatusBadGateway, response.StatusCode)
		var failure struct {
			Error, Code string
			ErrorType   string    `json:"error_type"`
			ExecutionID uuid.UUID `json:"execution_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &failure))
		require.Equal(t, "RangeError", failure.ErrorType)
		require.Equal(t, "function_failed", failure.Code)
		require.Equal(t, response.Header.Get("X-VoltRun-Execution-Id"), failure.ExecutionID.String())
		require.Equal(t, "failed", response.Header.Get("X-VoltRun-Status"))

		var slow struct{ ID uuid.UUID }
		c.must(t, http.StatusCreated, "POST", "/api/functions", map[string]any{
			"name": "slow", "runtime": "python", "timeout_sec": 1, "code": "import time\ndef handler(event):\n    time.sleep(60)",
		}, &slow)
		response, _ = c.invoke(t, slow.ID, `{}`)
		require.Equal(t, http.StatusGatewayTimeout, response.StatusCode)
	})

	t.Run("who prefers to wait gets the end with the acceptance", func(t *testing.T) {
		function := c.createFunction(t, "nodejs", `exports.handler = async (e) => { await new Promise((r) => setTimeout(r, e.ms)); return 'waited' }`)
		path := "/api/functions/" + function.String() + "/execute"
		response, body := c.send(t, path, `{"input":{"ms":50}}`, "Prefer", "respond-async, wait=30")
		require.Equal(t, http.StatusCreated, response.StatusCode, body)
		require.Equal(t, "wait=30", response.Header.Get("Preference-Applied"))
		require.Contains(t, body, `"status":"success"`)
		require.Contains(t, body, `"output":"waited"`)

		began := time.Now()
		_, body = c.send(t, path, `{"input":{"ms":5000}}`, "Prefer", "wait=1")
		require.Less(t, time.Since(began), 4*time.Second)
		require.Contains(t, body, `"status":"pending"`)
	})

	t.Run("an invocation that is sent again is the same one", func(t *testing.T) {
		function := c.createFunction(t, "nodejs", `exports.handler = async () => Math.random()`)
		first, one := c.invoke(t, function, `{}`, "Idempotency-Key", "order-4711")
		again, two := c.invoke(t, function, `{}`, "Idempotency-Key", "order-4711")
		require.Equal(t, one, two)
		require.Equal(t, first.Header.Get("X-VoltRun-Execution-Id"), again.Header.Get("X-VoltRun-Execution-Id"))
		require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
	})

	t.Run("no more run at once than the function may", func(t *testing.T) {
		var one struct{ ID uuid.UUID }
		c.must(t, http.StatusCreated, "POST", "/api/functions", map[string]any{
			"name": "one", "runtime": "nodejs", "concurrency": 1,
			"code": `exports.handler = async () => { const began = Date.now(); await new Promise((r) => setTimeout(r, 100)); return [began, Date.now()] }`,
		}, &one)
		var mu sync.Mutex
		var spans [][2]int64
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() {
				_, body := c.invoke(t, one.ID, `{}`)
				mu.Lock()
				defer mu.Unlock()
				var span [2]int64
				if err := json.Unmarshal([]byte(body), &span); err != nil {
					t.Errorf("%s: %v", body, err)
				}
				spans = append(spans, span)
			})
		}
		calls.Wait()
		for i, a := range spans {
			for _, b := range spans[i+1:] {
				require.True(t, a[1] <= b[0] || b[1] <= a[0], "%v and %v were there at once", a, b)
			}
		}
	})

	t.Run("a changed function is the one that runs next", func(t *testing.T) {
		function := c.createFunction(t, "nodejs", `exports.handler = async () => 0`)
		for n := range 10 {
			c.must(t, http.StatusOK, "PUT", "/api/functions/"+function.String(), map[string]any{"code": "exports.handler = async () => " + string(rune('0'+n))}, nil)
			_, body := c.invoke(t, function, `{}`)
			require.Equal(t, string(rune('0'+n)), body)
		}
		c.must(t, http.StatusOK, "PUT", "/api/functions/"+function.String(), map[string]any{"status": "inactive"}, nil)
		response, body := c.invoke(t, function, `{}`)
		require.Equal(t, http.StatusConflict, response.StatusCode, body)
	})
}

// eventTypes are the types of an execution's events.
func (c client) eventTypes(t testing.TB, execution uuid.UUID) (types []string) {
	t.Helper()
	var page struct{ Events []struct{ Type string } }
	var list []struct{ Type string }
	var raw json.RawMessage
	c.must(t, http.StatusOK, "GET", "/api/executions/"+execution.String()+"/events", nil, &raw)
	if json.Unmarshal(raw, &list) != nil {
		require.NoError(t, json.Unmarshal(raw, &page))
		list = page.Events
	}
	for _, e := range list {
		types = append(types, e.Type)
	}
	return types
}

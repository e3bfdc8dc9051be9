package rest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

func TestAFunctionIsCreatedReadChangedAndDeleted(t *testing.T) {
	t.Parallel()
	c, who := register(t, resttest.Start(t))
	require.JSONEq(t, "[]", string(c.must("GET", "/api/functions", nil, 200).body))

	response := c.must("POST", "/api/functions", object{"name": "hello", "runtime": "nodejs", "code": "exports.handler = () => '<b>'"}, 201)
	created := decode[object](t, response)
	path := "/api/functions/" + created["id"].(string)
	require.Equal(t, path, response.Header.Get("Location"))
	require.Contains(t, string(response.body), "<b>", "people read code in it")
	requireTime(t, created["created_at"])
	requireTime(t, created["updated_at"])
	require.Subset(t, keys(created), []string{
		"id", "user_id", "name", "description", "runtime", "code", "entry_point", "memory_mb", "timeout_sec", "status", "created_at", "updated_at",
	})
	require.Subset(t, created, object{
		"user_id": who["user"].(object)["id"], "name": "hello", "description": "", "runtime": "nodejs",
		"entry_point": "index.handler", "memory_mb": 128.0, "timeout_sec": 30.0, "status": "active",
	})
	require.Equal(t, created, c.do("GET", path, nil, 200))

	updated := c.do("PUT", path, object{"memory_mb": 256, "status": "inactive"}, 200)
	require.Subset(t, updated, object{"name": "hello", "memory_mb": 256.0, "status": "inactive"})
	require.Equal(t, updated, c.do("PUT", path, object{}, 200), "a change of nothing changes nothing")
	require.Equal(t, updated, c.do("GET", path, nil, 200))

	second := c.createFunction("second")
	list := decode[[]object](t, c.must("GET", "/api/functions", nil, 200))
	require.Equal(t, []any{second, created["id"]}, []any{list[0]["id"], list[1]["id"]}, "newest first")

	require.NotEmpty(t, c.do("DELETE", path, nil, 200)["message"])
	c.do("GET", path, nil, 404)
	c.do("DELETE", path, nil, 404)
}

func TestFunctionsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	c, _ := register(t, resttest.Start(t))
	var want []string
	for range 7 {
		want = slices.Insert(want, 0, c.createFunction("hello"))
	}
	require.Equal(t, want, c.walk("/api/functions", "limit=3"))
	all := c.must("GET", "/api/functions", nil, 200)
	require.Len(t, decode[[]object](t, all), 7)
	require.Empty(t, all.Header.Get("Link"))
}

func TestAFunctionTakesWhateverItsLimitsAllow(t *testing.T) {
	t.Parallel()
	c, _ := register(t, resttest.Start(t))
	largest := object{
		"name": strings.Repeat("ü", domain.MaxNameLength), "description": strings.Repeat("😀", domain.MaxDescriptionLength),
		"runtime": "python", "code": strings.Repeat("x", domain.MaxCodeBytes), "entry_point": "main.run", "memory_mb": 3008, "timeout_sec": 900,
	}
	require.Len(t, c.do("POST", "/api/functions", largest, 201)["code"], domain.MaxCodeBytes)

	largest["code"] = strings.Repeat("\u0001", domain.MaxCodeBytes) // six times as long in JSON
	largest["memory_mb"] = 1
	got := c.do("POST", "/api/functions", largest, 400)
	require.Len(t, got["fields"], 1, "the memory, and not the length of the code")
}

func TestAPausedFunctionIsNotRun(t *testing.T) {
	t.Parallel()
	c, _ := register(t, resttest.Start(t))
	id := c.createFunction("hello")
	c.do("PUT", "/api/functions/"+id, object{"status": "inactive"}, 200)
	got := c.do("POST", "/api/functions/"+id+"/execute", nil, 409)
	require.Contains(t, got["error"], "inactive")
}

func TestManyRequestsAtOnceReadTheirOwnWrites(t *testing.T) {
	t.Parallel()
	c, _ := register(t, resttest.Start(t))
	done := make(chan error)
	const clients, rounds = 8, 10
	for range clients {
		go func() { done <- c.writeAndRead(rounds) }()
	}
	for range clients {
		require.NoError(t, <-done)
	}
	require.Len(t, decode[[]object](t, c.must("GET", "/api/functions", nil, 200)), clients*rounds)
}

func (c client) writeAndRead(rounds int) error {
	for range rounds {
		created := c.call("POST", "/api/functions", `{"name":"hello","runtime":"nodejs","code":"code"}`)
		if read := c.call("GET", created.Header.Get("Location"), ""); read.StatusCode != http.StatusOK {
			return fmt.Errorf("%d, then %d", created.StatusCode, read.StatusCode)
		}
	}
	return nil
}

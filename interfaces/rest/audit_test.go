package rest_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

func TestEverythingThatHappenedToAnExecutionIsToldInOrder(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, who := register(t, s)
	request := uuid.NewString()
	function := c.createFunction("hello")
	id := c.with("X-Request-Id", request).execute(function)
	first := s.Head(t)
	work(t, s, id, domain.ExecutionCompleted{Output: json.RawMessage(`"done <b>"`), DurationMS: 12, MemoryMB: 34}, "first", "second")

	events := decode[[]object](t, c.must("GET", "/api/executions/"+id+"/events", nil, 200))
	require.Len(t, events, 5)
	var types []string
	for i, e := range events {
		types = append(types, e["type"].(string))
		require.Subset(t, e, object{
			"position": float64(first) + float64(i), "version": float64(i + 1), "schema_version": 1.0,
			"stream_id": id, "subject": object{"kind": "execution", "id": id}, "correlation_id": request,
		})
		requireTime(t, e["recorded_at"])
		require.NotContains(t, e, "erased")
		require.NotContains(t, e, "archived")
	}
	require.Equal(t, []string{"execution.requested", "execution.started", "execution.log_line", "execution.log_line", "execution.completed"}, types)
	require.Equal(t, object{"kind": "user", "id": who["user"].(object)["id"]}, events[0]["actor"])
	require.Equal(t, request, events[0]["causation_id"])
	require.Equal(t, "worker", events[4]["actor"].(object)["kind"])
	require.Equal(t, events[0]["id"], events[4]["causation_id"])
	require.Subset(t, events[0]["data"], object{"function_id": function, "input": object{"name": "Ada"}})
	require.Equal(t, "second", events[3]["data"].(object)["text"])
	require.Equal(t, object{"output": "done <b>", "duration_ms": 12.0, "memory_used": 34.0}, events[4]["data"])

	pages := c.walkEvents("/api/executions/"+id+"/events", "limit=2")
	require.Equal(t, events, pages)
	slices.Reverse(events)
	require.Equal(t, events, c.walkEvents("/api/executions/"+id+"/events", "limit=2&order=desc"))
}

// walkEvents follows a list's links to its end.
func (c client) walkEvents(path, query string) (events []object) {
	c.t.Helper()
	for next := path + "?" + query; next != ""; {
		page := c.must("GET", next, nil, http.StatusOK)
		events = append(events, decode[[]object](c.t, page)...)
		next = ""
		if match := nextLink.FindStringSubmatch(page.Header.Get("Link")); match != nil {
			next = match[1] + "?" + match[2]
		}
	}
	return events
}

func TestAFunctionKeepsItsHistoryWhenItIsDeleted(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	id := c.createFunction("hello")
	c.do("PUT", "/api/functions/"+id, object{"name": "renamed"}, 200)
	c.execute(id)
	c.do("DELETE", "/api/functions/"+id, nil, 200)
	var types []string
	for _, e := range decode[[]object](t, c.must("GET", "/api/functions/"+id+"/events", nil, 200)) {
		types = append(types, e["type"].(string))
	}
	require.Equal(t, []string{"function.created", "function.updated", "function.deleted"}, types)
}

func TestHistoryIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	function := c.createFunction("hello")
	execution := c.execute(function)
	other, _ := register(t, s)
	for _, path := range []string{
		"/api/functions/" + function + "/events", "/api/executions/" + execution + "/events",
	} {
		for _, accept := range []string{"*/*", "application/x-ndjson"} {
			requireRefusal(t, other.with("Accept", accept).must("GET", path, nil, 404), 404, path)
			c.with("Accept", accept).must("GET", path, nil, 200)
		}
	}
	for _, e := range other.walkEvents("/api/audit", "") {
		require.NotContains(t, []any{function, execution}, e["stream_id"])
	}
	require.Empty(t, other.walkEvents("/api/audit", "subject="+function))
	// The kinds are told apart as well.
	c.must("GET", "/api/executions/"+function+"/events", nil, 404)
	c.must("GET", "/api/functions/"+execution+"/events", nil, 404)
}

// Every way in which something is written says who it was, and in which request.
func TestWhoDidItIsOnEveryFact(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	request := uuid.NewString()
	anybody := newClient(t, s).with("X-Request-Id", request)
	account := anybody.do("POST", "/api/auth/register", object{"email": "ada@example.com", "password": "lovelace", "name": "Ada"}, 201)
	id := account["user"].(object)["id"].(string)
	c := anybody.bearing(account["token"].(string))

	session := anybody.do("POST", "/api/auth/login", object{"email": "ada@example.com", "password": "lovelace"}, 200)
	anybody.do("POST", "/api/auth/refresh", object{"refresh_token": session["refresh_token"]}, 200)
	anybody.do("POST", "/api/auth/refresh", object{"refresh_token": session["refresh_token"]}, 401) // revokes the session
	c.do("POST", "/api/auth/refresh", nil, 200)
	key := c.do("POST", "/api/keys", object{"name": "ci"}, 201)
	program := anybody.bearing(key["key"].(string))
	function := program.createFunction("hello")
	program.do("PUT", "/api/functions/"+function, object{"name": "renamed"}, 200)
	worked, abandoned := program.execute(function), c.execute(function)
	work(t, s, worked, domain.ExecutionCompleted{Output: json.RawMessage("1")}, "line")
	require.NoError(t, s.Commands.AbandonExecution.Handle(t.Context(), uuid.MustParse(abandoned), domain.AbandonExecution{}))
	c.do("DELETE", "/api/functions/"+function, nil, 200)
	require.Eventually(t, func() bool { return len(c.walkEvents("/api/audit", "type=key.used")) == 1 }, 10*time.Second, time.Millisecond)
	c.do("DELETE", "/api/keys/"+key["id"].(string), nil, 200)

	nobody, user := object{"kind": "system"}, object{"kind": "user", "id": id}
	apiKey := object{"kind": "api_key", "id": key["id"], "prefix": key["prefix"]}
	var got []string
	for _, e := range c.walkEvents("/api/audit", "order=asc") {
		require.Equal(t, request, e["correlation_id"], e["type"])
		actor := e["actor"].(object)
		if actor["kind"] == "worker" {
			require.NotEmpty(t, actor["id"])
			actor = object{"kind": "worker"}
		}
		who := map[string]string{fmt.Sprint(nobody): "system", fmt.Sprint(user): "user", fmt.Sprint(apiKey): "key", "map[kind:worker]": "worker"}[fmt.Sprint(actor)]
		got = append(got, e["type"].(string)+" by "+who)
	}
	used := slices.Index(got, "key.used by key") // it is written beside the request
	require.NotEqual(t, -1, used, got)
	require.Equal(t, []string{
		"email.reserved by system", "account.registered by system", "session.started by system",
		"session.started by user", "session.refreshed by user", "session.revoked by user", "session.refreshed by user",
		"key.created by user", "function.created by key", "function.updated by key",
		"execution.requested by key", "execution.requested by user",
		"execution.started by worker", "execution.log_line by worker", "execution.completed by worker", "execution.failed by system",
		"function.deleted by user", "key.deleted by user",
	}, slices.Delete(got, used, used+1))
}

func TestTheUsesOfAKeyAreFoundWithTheKey(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, who := register(t, s)
	key := c.do("POST", "/api/keys", object{"name": "ci"}, 201)["id"].(string)
	require.NoError(t, s.Commands.NoteKeyUse.Handle(t.Context(), commands.KeyUse{
		AccountID: uuid.MustParse(who["user"].(object)["id"].(string)), KeyID: uuid.MustParse(key), At: time.Now(),
	}))
	c.do("DELETE", "/api/keys/"+key, nil, 200)
	var types []string
	for _, e := range c.walkEvents("/api/audit", "subject="+key) {
		require.Equal(t, object{"kind": "key", "id": key}, e["subject"])
		types = append(types, e["type"].(string))
	}
	require.Equal(t, []string{"key.deleted", "key.used", "key.created"}, types)
}

// Whatever is asked for, in pages of any size or as lines, newest or oldest first: it is exactly what matches.
func TestAnAuditFindsExactlyWhatItIsAskedFor(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	random := rand.New(rand.NewPCG(7, 7))
	in := &world{}
	w, other := newWitness(t, s, random, in), newWitness(t, s, random, in)
	for range 150 {
		w.act()
		other.act()
	}
	all := w.walkEvents("/api/audit", "order=asc&limit=1000")
	require.Greater(t, len(all), 100)
	for range 150 {
		query, matches := someFilter(random, all)
		var want []object
		for _, e := range all {
			if matches(e) {
				want = append(want, e)
			}
		}
		require.Equal(t, want, w.walkEvents("/api/audit", query+fmt.Sprintf("&order=asc&limit=%d", 1+random.IntN(20))), query)
		require.Equal(t, want, w.lines("/api/audit?order=asc&"+query), query)
		slices.Reverse(want)
		require.Equal(t, want, w.walkEvents("/api/audit", query+fmt.Sprintf("&limit=%d", 1+random.IntN(20))), query)
		require.Equal(t, want, w.lines("/api/audit?"+query), query)
	}
}

// lines reads an export.
func (c client) lines(address string) (events []object) {
	c.t.Helper()
	got := c.with("Accept", "application/x-ndjson").must("GET", address, nil, 200)
	require.Equal(c.t, "application/x-ndjson", got.Header.Get("Content-Type"))
	scanner := bufio.NewScanner(bytes.NewReader(got.body))
	for scanner.Scan() {
		var e object
		require.NoError(c.t, json.Unmarshal(scanner.Bytes(), &e))
		events = append(events, e)
	}
	return events
}

// someFilter makes conditions at random, as a query and as what they mean.
func someFilter(random *rand.Rand, all []object) (query string, matches func(object) bool) {
	values := url.Values{}
	var conditions []func(object) bool
	add := func(name, value string, condition func(object) bool) {
		values.Add(name, value)
		conditions = append(conditions, condition)
	}
	example := func() object { return pick(random, all) }
	if random.IntN(2) == 0 {
		addTypes(random, values, &conditions)
	}
	switch e := example(); random.IntN(8) {
	case 0:
		kind := e["actor"].(object)["kind"]
		add("actor", kind.(string), func(e object) bool { return e["actor"].(object)["kind"] == kind })
	case 1:
		if id, ok := e["actor"].(object)["id"]; ok {
			add("actor", id.(string), func(e object) bool { return e["actor"].(object)["id"] == id })
		}
	case 2:
		add("actor", "vr_123456789", func(e object) bool { return e["actor"].(object)["prefix"] == "vr_123456789" })
	case 3, 4:
		id := e["subject"].(object)["id"]
		add("subject", id.(string), func(e object) bool { return e["subject"].(object)["id"] == id })
	}
	switch e := example(); random.IntN(8) {
	case 0:
		at := e["recorded_at"].(string)
		add("since", at, func(e object) bool { return !timeOf(e).Before(mustTime(at)) })
	case 1:
		at := e["recorded_at"].(string)
		add("until", at, func(e object) bool { return !timeOf(e).After(mustTime(at)) })
	case 2:
		add("from", fmt.Sprint(e["position"]), func(o object) bool { return o["position"].(float64) >= e["position"].(float64) })
	case 3:
		add("to", fmt.Sprint(e["position"]), func(o object) bool { return o["position"].(float64) <= e["position"].(float64) })
	}
	return values.Encode(), func(e object) bool {
		return !slices.ContainsFunc(conditions, func(matches func(object) bool) bool { return !matches(e) })
	}
}

// addTypes wants one type or two, or all of a kind.
func addTypes(random *rand.Rand, values url.Values, conditions *[]func(object) bool) {
	var wanted []string
	for range 1 + random.IntN(2) {
		t := pick(random, domain.Events()).EventType()
		if random.IntN(3) == 0 {
			t = t[:strings.Index(t, ".")+1] + "*"
		}
		values.Add("type", t)
		wanted = append(wanted, strings.TrimSuffix(t, "*"))
	}
	*conditions = append(*conditions, func(e object) bool {
		return slices.ContainsFunc(wanted, func(t string) bool {
			return e["type"] == t || strings.HasSuffix(t, ".") && strings.HasPrefix(e["type"].(string), t)
		})
	})
}

func mustTime(text string) time.Time { return must(time.Parse(time.RFC3339, text)) }

func timeOf(e object) time.Time { return mustTime(e["recorded_at"].(string)) }

func TestAnAuditNamesEveryParameterThatIsWrong(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	for name, values := range map[string][]string{
		"type":    {"function", "function.", "nothing.*", "%00", "*.created", "Function.created"},
		"actor":   {"nobody", "vr_", "vr_%00%00%00%00%00%00%00%00%00", "vr_0123456789", "7"},
		"subject": {"7", "function"},
		"since":   {"yesterday", "2026-11-23", "12"},
		"until":   {"now", "99999-01-01T00:00:00Z"},
		"from":    {"0", "-1", "x", "9223372036854775807"},
		"to":      {"0", "1.5"},
		"order":   {"newest", "ASC"},
		"limit":   {"0", "1001"},
		"cursor":  {"x"},
	} {
		for _, value := range values {
			got := requireRefusal(t, c.must("GET", "/api/audit?"+name+"="+value, nil, 400), 400, name+"="+value)
			require.Equal(t, name, got["fields"].([]any)[0].(object)["field"])
		}
	}
	got := c.do("GET", "/api/audit?type=x&actor=y&limit=z", nil, 400)
	require.Len(t, got["fields"], 3)
}

package rest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

func (c client) keyed(key string) client { return c.with("Idempotency-Key", key) }

// posts are the targets that change things by POST, each with a body that this stage accepts.
func (s stage) posts() map[string]string {
	email, refresh := s.who["user"].(object)["email"].(string), s.who["refresh_token"].(string)
	special := map[string]string{
		"POST /api/auth/login":   fmt.Sprintf(`{"email":%q,"password":"lovelace"}`, email),
		"POST /api/auth/refresh": fmt.Sprintf(`{"refresh_token":%q}`, refresh),
	}
	bodies := map[string]string{}
	for _, r := range targets {
		if r.method() == http.MethodPost && !strings.HasSuffix(r.route, "/invoke") { // which waits for a worker, see cmd/voltrun
			bodies[r.route] = jsonOf(r.valid)
		}
	}
	for route, body := range special {
		bodies[route] = body
	}
	return bodies
}

// forgetAnswers is what a server that ends between an effect and its answer leaves behind.
func forgetAnswers(t *testing.T, s *resttest.Server) {
	t.Helper()
	_, err := s.Store.Pool().Exec(t.Context(), "delete from answers")
	require.NoError(t, err)
}

// lasting is an answer without its access token, which is made anew when the first one was lost before anybody got it.
func lasting(t *testing.T, a answer) object {
	t.Helper()
	body := decode[object](t, a)
	delete(body, "token")
	delete(body, "expires_at")
	return body
}

func TestEveryPostIsCarriedOutOnceAndAnsweredTheSame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for route, body := range s.posts() {
		r, c := target{route: route}, s.keyed(uuid.NewString())
		before := s.Head(t)
		first := c.call("POST", s.path(r), body)
		require.Less(t, first.StatusCode, 300, "%s needs a body in posts() that is accepted: %s", route, first.body)
		require.Empty(t, first.Header.Get("Idempotent-Replayed"))
		after := s.Head(t)

		again := c.call("POST", s.path(r), body)
		require.Equal(t, first.StatusCode, again.StatusCode, route)
		require.Equal(t, string(first.body), string(again.body), route)
		require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"), route)
		require.Equal(t, first.Header.Get("Content-Type"), again.Header.Get("Content-Type"), route)
		require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"), route)
		for _, other := range []string{`{"surprise":1}`, body + " ", ""} {
			requireRefusal(t, c.call("POST", s.path(r), other), 422, route+" with another body")
		}
		if after > before {
			forgetAnswers(t, s.Server)
			requireRefusal(t, c.call("POST", s.path(r), `{"surprise":1}`), 422, route+" with another body, the answer being lost")
			told := c.call("POST", s.path(r), body)
			require.Equal(t, first.StatusCode, told.StatusCode, "%s: %s", route, told.body)
			require.Equal(t, lasting(t, first), lasting(t, told), route)
			require.Equal(t, first.Header.Get("Location"), told.Header.Get("Location"), route)
			require.Equal(t, told.body, c.call("POST", s.path(r), body).body, "%s: what was told again stays", route)
		}
		require.Equal(t, after, s.Head(t), "%s: a repetition wrote something", route)
	}
}

func TestTwoHundredEqualRequestsOverTwoServersAreOneExecution(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	beside := s.StartBeside(t)
	path, before := "/api/functions/"+s.ids["functions"]+"/execute", s.Head(t)
	here, there := s.keyed("order-4711"), s.keyed("order-4711")
	there.url = beside.URL

	answers := make([]answer, 200)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = []client{here, there}[i%2].call("POST", path, `{"input":{"n":1}}`) })
	}
	wg.Wait()
	first := 0
	for _, got := range answers {
		require.Equal(t, http.StatusCreated, got.StatusCode, "%s", got.body)
		require.Equal(t, string(answers[0].body), string(got.body))
		require.Equal(t, answers[0].Header.Get("Location"), got.Header.Get("Location"))
		if got.Header.Get("Idempotent-Replayed") == "" {
			first++
		}
	}
	require.Equal(t, 1, first, "one answer is the first one")
	require.Equal(t, before+2, s.Head(t), "the receipt and the request")
	s.CatchUp(t)
	require.Len(t, decode[[]object](t, s.must("GET", "/api/executions", nil, 200)), 2, "the stage's own and this one")
}

func TestAKeyThatWasUsedForAnotherPathIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, body := s.keyed("k"), object{"name": "n"}
	c.must("POST", "/api/keys", body, 201)
	s.nothingChanges(t, func() {
		for _, path := range []string{"/api/keys?a=b", "/api/functions", "/api/functions/" + s.ids["functions"] + "/execute"} {
			requireRefusal(t, c.must("POST", path, body, 422), 422, path)
		}
	})
}

func TestARequestWhoseTwinStillRunsIsToldSo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.Idempotency.Patience = 20 * time.Millisecond
	release := s.Hold(t, "keys") // so that the answer waits for its projection
	c := s.keyed("k")
	before := s.Head(t)
	first := make(chan answer, 1)
	go func() { first <- c.call("POST", "/api/keys", `{"name":"ci"}`) }()
	require.Eventually(t, func() bool { return s.Head(t) > before }, 10*time.Second, time.Millisecond)

	got := c.call("POST", "/api/keys", `{"name":"ci"}`)
	requireRefusal(t, got, 409, "a request whose twin still runs")
	require.NotEmpty(t, got.Header.Get("Retry-After"))
	release()
	answered := <-first
	require.Equal(t, http.StatusCreated, answered.StatusCode)
	require.Equal(t, answered.body, c.call("POST", "/api/keys", `{"name":"ci"}`).body)
}

func TestAnswersThatCannotBeKeptAreNotGiven(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	execute := func(sql string) {
		_, err := s.Store.Pool().Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	execute(`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no' using errcode = '57P03'; end $$`)
	execute(`create trigger refuse before insert on answers for each row execute function refuse()`)
	c, before := s.keyed("k"), s.Head(t)
	requireRefusal(t, c.call("POST", "/api/keys", `{"name":"ci"}`), 503, "an answer that cannot be kept")
	after := s.Head(t)
	require.Greater(t, after, before)

	execute(`drop trigger refuse on answers`)
	require.Equal(t, http.StatusCreated, c.call("POST", "/api/keys", `{"name":"ci"}`).StatusCode)
	require.Equal(t, after, s.Head(t))
}

func TestARefusalThatChangedNothingIsJudgedAnew(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c := newClient(t, s).keyed("k")
	login := object{"email": "ada@example.com", "password": "lovelace"}
	c.must("POST", "/api/auth/login", login, 401)
	c.must("POST", "/api/auth/register", object{"email": "ada@example.com", "password": "lovelace", "name": "Ada"}, 201)
	c.must("POST", "/api/auth/login", object{"email": "ada@example.com", "password": "babbage"}, 401)
	c.must("POST", "/api/auth/login", login, 200)
	c.must("POST", "/api/auth/login", object{"email": "ada@example.com", "password": "babbage"}, 422)
}

func TestARefusalThatWasRecordedIsRepeated(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stolen := object{"refresh_token": s.who["refresh_token"]}
	newClient(t, s.Server).must("POST", "/api/auth/refresh", stolen, 200)
	c := newClient(t, s.Server).keyed("k")
	refused := c.must("POST", "/api/auth/refresh", stolen, 401)
	after := s.Head(t)
	again := c.must("POST", "/api/auth/refresh", stolen, 401)
	require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
	require.Equal(t, refused.body, again.body)
	forgetAnswers(t, s.Server)
	require.Equal(t, "true", c.must("POST", "/api/auth/refresh", stolen, 401).Header.Get("Idempotent-Replayed"))
	require.Equal(t, after, s.Head(t), "the session is revoked once")
}

func TestKeysComeBareOrQuoted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for bare, quoted := range map[string]string{
		"8e03978e-40d5-43dd-bc93-6894a57f9324": `"8e03978e-40d5-43dd-bc93-6894a57f9324"`, `a\b"c`: `"a\\b\"c"`,
		strings.Repeat("x", 255): `"` + strings.Repeat("x", 255) + `"`, "~": `"~"`,
	} {
		first := s.keyed(bare).must("POST", "/api/keys", object{"name": "n"}, 201)
		require.Equal(t, first.body, s.keyed(quoted).must("POST", "/api/keys", object{"name": "n"}, 201).body, quoted)
	}
}

func TestWhatIsNoIdempotencyKeyIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.nothingChanges(t, func() {
		for _, key := range []string{
			"", "a b", "ä", "a\tb", "\x80", `"`, `""`, `"a`, `a, b`, `"a";p=1`, `"a"b"`, `"a\b"`, `"ä"`, strings.Repeat("x", 256), `"` + strings.Repeat("x", 256) + `"`,
		} {
			got := requireRefusal(t, s.keyed(key).call("POST", "/api/keys", `{"name":"n"}`), 400, key)
			require.Contains(t, got["error"], "Idempotency-Key")
		}
		twice := s.keyed("a")
		twice.header.Add("Idempotency-Key", "b")
		requireRefusal(t, twice.call("POST", "/api/keys", `{"name":"n"}`), 400, "two keys")
	})
	s.keyed("a b").must("GET", "/api/keys", nil, 200) // other methods are idempotent by themselves
}

func TestAFunctionThatIsGoneWasMadeAllTheSame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, body := s.keyed("k"), object{"name": "n", "runtime": "nodejs", "code": "c"}
	id := c.do("POST", "/api/functions", body, 201)["id"].(string)
	s.must("DELETE", "/api/functions/"+id, nil, 200)
	require.Equal(t, id, c.do("POST", "/api/functions", body, 201)["id"])
	forgetAnswers(t, s.Server)
	require.Contains(t, c.do("POST", "/api/functions", body, 409)["error"], id)
}

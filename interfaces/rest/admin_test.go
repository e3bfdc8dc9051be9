package rest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// adminRoutes are the operator's, on a projection that is there.
var adminRoutes = []struct{ method, path string }{
	{"GET", "/api/admin/projections"},
	{"GET", "/api/admin/projections/keys/rebuild"},
	{"POST", "/api/admin/projections/keys/rebuild"},
	{"DELETE", "/api/admin/projections/keys/rebuild"},
	{"POST", "/api/admin/projections/keys/resume"},
}

func TestTheOperatorIsWhoeverHasTheFirstAccountOrTheSecret(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	first, _ := register(t, s)
	second, _ := register(t, s)
	for what, c := range map[string]client{
		"the first account": first, "the secret": newClient(t, s).bearing(resttest.OperatorToken(t)),
	} {
		require.Equal(t, http.StatusOK, c.call("GET", "/api/admin/projections", "").StatusCode, what)
	}
	for _, r := range adminRoutes {
		nothing := requireRefusal(t, second.call("GET", "/api/nothing", ""), 404, r.path)
		got := requireRefusal(t, second.call(r.method, r.path, ""), 404, r.path)
		require.Equal(t, nothing["code"], got["code"])
		require.Contains(t, got["error"], "There is nothing at "+r.path)
		requireRefusal(t, newClient(t, s).call(r.method, r.path, ""), 401, r.path)
	}
	_, err := s.Rebuilds.Progress("keys")
	require.Error(t, err, "nothing was started")
}

func TestAnAPIKeyDoesNotOperateTheServer(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	first, _ := register(t, s)
	second, _ := register(t, s)
	keyOf := func(c client) string { return c.do("POST", "/api/keys", object{"name": "ci"}, 201)["key"].(string) }
	firsts, seconds := newClient(t, s).with("X-API-Key", keyOf(first)), newClient(t, s).bearing(keyOf(second))
	for _, r := range adminRoutes {
		got := requireRefusal(t, firsts.call(r.method, r.path, ""), 403, r.path)
		require.Contains(t, got["error"], "An API key cannot operate the server. Log in")
		requireRefusal(t, seconds.call(r.method, r.path, ""), 404, "whose account is not the first, need not know what is there")
	}
	_, err := s.Rebuilds.Progress("keys")
	require.Error(t, err, "nothing was started")
}

func TestAnOperatorsTokenOpensNothingElseAndDoesNotLast(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	operator := newClient(t, s.Server).bearing(resttest.OperatorToken(t))
	for _, path := range []string{"/api/functions", "/api/keys", "/api/auth/me", "/api/executions"} {
		requireRefusal(t, operator.call("GET", path, ""), 401, path)
	}
	secret := []byte(resttest.Secret)
	late, err := rest.OperatorToken(secret, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	foreign, err := rest.OperatorToken([]byte("another secret, longer than 32 bytes"), time.Now())
	require.NoError(t, err)
	claims := jwt.MapClaims{"iss": "voltrun", "aud": "voltrun-operator", "exp": time.Now().Add(time.Minute).Unix()}
	for what, token := range map[string]string{
		"an old one": late, "another server's": foreign, "none": sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims),
		"HS512": sign(t, jwt.SigningMethodHS512, secret, claims), "garbage": "garbage",
	} {
		for _, r := range adminRoutes {
			requireRefusal(t, newClient(t, s.Server).bearing(token).call(r.method, r.path, ""), 401, what)
		}
	}
}

func TestARebuildIsStartedWatchedAndCancelled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	requireRefusal(t, s.call("GET", "/api/admin/projections/keys/rebuild", ""), 404, "never started")
	requireRefusal(t, s.call("DELETE", "/api/admin/projections/keys/rebuild", ""), 404, "never started")
	release := s.Hold(t, "keys") // the swap waits for it
	started := s.must("POST", "/api/admin/projections/keys/rebuild", nil, 202)
	require.Equal(t, "/api/admin/projections/keys/rebuild", started.Header.Get("Location"))
	got := requireRefusal(t, s.call("POST", "/api/admin/projections/keys/rebuild", ""), 409, "twice")
	require.Contains(t, got["error"], `"keys" is being rebuilt already`)
	s.awaitRebuild(t, "keys", "swapping")
	progress := s.do("GET", "/api/admin/projections/keys/rebuild", nil, 200)
	require.EqualValues(t, s.Head(t), progress["events_done"])
	require.EqualValues(t, s.Head(t), progress["events_total"])
	require.Contains(t, progress, "events_per_second")
	require.Contains(t, progress, "seconds_left")
	requireTime(t, progress["started_at"])
	require.NotContains(t, progress, "ended_at")

	require.Equal(t, "cancelled", s.do("DELETE", "/api/admin/projections/keys/rebuild", nil, 200)["state"])
	requireRefusal(t, s.call("DELETE", "/api/admin/projections/keys/rebuild", ""), 409, "it is over")
	release()
	s.must("POST", "/api/admin/projections/keys/rebuild", nil, 202)
	s.awaitRebuild(t, "keys", "done")
	progress = s.do("GET", "/api/admin/projections/keys/rebuild", nil, 200)
	requireTime(t, progress["ended_at"])
	require.NotContains(t, progress, "error")
	s.must("GET", "/api/keys", nil, 200)
}

func (s stage) awaitRebuild(t *testing.T, name, state string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return s.do("GET", "/api/admin/projections/"+name+"/rebuild", nil, 200)["state"] == state
	}, 20*time.Second, 5*time.Millisecond)
}

func TestOnlyTheOperatorReadsWhyAProjectionIsPausedAndResumesIt(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, err := s.Store.Pool().Exec(t.Context(), "alter table functions rename column name to label")
	require.NoError(t, err)
	s.call("POST", "/api/functions", `{"name":"n","runtime":"nodejs","code":"c"}`)
	paused := s.awaitProjection(t, "functions", "paused")
	require.Contains(t, paused["error"], "column")
	require.Positive(t, paused["lag"])
	requireTime(t, paused["paused_since"])
	health := s.call("GET", "/health", "")
	require.NotContains(t, string(health.body), "column", "what everybody may read")
	require.Contains(t, string(health.body), "The server's log says why.")

	s.do("POST", "/api/admin/projections/functions/resume", nil, 200)
	require.Equal(t, paused["position"], s.awaitProjection(t, "functions", "paused")["position"], "the cause is still there")
	_, err = s.Store.Pool().Exec(t.Context(), "alter table functions rename column label to name")
	require.NoError(t, err)
	require.Equal(t, "following", s.do("POST", "/api/admin/projections/functions/resume", nil, 200)["state"])
	s.CatchUp(t)
	require.NotContains(t, s.awaitProjection(t, "functions", "following"), "error")
	require.Len(t, decode[[]object](t, s.must("GET", "/api/functions", nil, 200)), 2)
}

func (s stage) awaitProjection(t *testing.T, name, state string) (found object) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, p := range decode[[]object](t, s.must("GET", "/api/admin/projections", nil, 200)) {
			if p["name"] == name {
				found = p
			}
		}
		return found["state"] == state
	}, 20*time.Second, 5*time.Millisecond)
	return found
}

func TestAProjectionThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, r := range adminRoutes[1:] {
		for _, name := range []string{"nothing", uuid.NewString(), "%00", "keys%27", "Keys"} {
			path := r.path[:len("/api/admin/projections/")] + name + r.path[len("/api/admin/projections/keys"):]
			requireRefusal(t, s.call(r.method, path, ""), 404, r.method+" "+path)
		}
	}
}

package rest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

func TestAnAPIKeyOpensEverythingButARefresh(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, who := register(t, s)
	require.JSONEq(t, "[]", string(c.must("GET", "/api/keys", nil, 200).body))
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	created := c.do("POST", "/api/keys", object{"name": "ci", "expires_at": expires}, 201)
	require.Equal(t, []string{"id", "key", "message", "name", "prefix"}, keys(created))
	key := created["key"].(string)
	require.Regexp(t, `^vr_[0-9a-f]{64}$`, key)
	require.Equal(t, key[:12], created["prefix"])

	for _, program := range []client{newClient(t, s).bearing(key), newClient(t, s).with("X-API-Key", key), newClient(t, s).with("Authorization", "bearer "+key)} {
		require.Equal(t, who["user"], program.do("GET", "/api/auth/me", nil, 200)["user"])
		program.execute(program.createFunction("by key"))
		require.Contains(t, program.do("POST", "/api/auth/refresh", nil, 401)["error"], "API key")
	}

	list := c.must("GET", "/api/keys", nil, 200)
	require.NotContains(t, string(list.body), key)
	require.NotContains(t, string(list.body), "hash")
	listed := decode[[]object](t, list)[0]
	require.Subset(t, listed, object{"id": created["id"], "user_id": who["user"].(object)["id"], "name": "ci", "prefix": key[:12], "expires_at": expires})
	requireTime(t, listed["created_at"])

	require.NotEmpty(t, c.do("DELETE", "/api/keys/"+created["id"].(string), nil, 200)["message"])
	newClient(t, s).bearing(key).do("GET", "/api/auth/me", nil, 401)
	c.do("DELETE", "/api/keys/"+created["id"].(string), nil, 404)
}

func TestKeysAreListedPageByPage(t *testing.T) {
	t.Parallel()
	c, _ := register(t, resttest.Start(t))
	var want []string
	for range 7 {
		want = slices.Insert(want, 0, c.do("POST", "/api/keys", object{"name": "ci"}, 201)["id"].(string))
	}
	require.Equal(t, want, c.walk("/api/keys", "limit=3"))
	require.Len(t, decode[[]object](t, c.must("GET", "/api/keys", nil, 200)), 7)
}

// The read model cannot say in time that the key is gone, so nobody may be told so; but where it was deleted it stops.
func TestADeletedKeyStopsAtOnceAlthoughItsProjectionIsLate(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	created := c.do("POST", "/api/keys", object{"name": "ci"}, 201)
	path := "/api/keys/" + created["id"].(string)
	program := newClient(t, s).bearing(created["key"].(string))
	program.do("GET", "/api/auth/me", nil, 200)

	release := s.Hold(t, "keys")
	got := requireRefusal(t, c.must("DELETE", path, nil, 503), 503, "a key that may work a moment longer")
	require.Contains(t, got["error"], "The key is deleted, but may work a moment longer")
	require.Len(t, decode[[]object](t, c.must("GET", "/api/keys", nil, 200)), 1, "the read model is late")
	program.do("GET", "/api/auth/me", nil, 401)

	release()
	s.CatchUp(t)
	program.do("GET", "/api/auth/me", nil, 401)
	require.JSONEq(t, "[]", string(c.must("GET", "/api/keys", nil, 200).body))
	c.do("DELETE", path, nil, 404)
}

func TestTheUseOfAKeyIsShownAndWrittenOnce(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	key := c.do("POST", "/api/keys", object{"name": "ci"}, 201)["key"].(string)
	before := s.Head(t)
	for range 20 {
		newClient(t, s).bearing(key).must("GET", "/api/functions", nil, 200)
	}
	s.API.Close()
	require.Equal(t, before+1, s.Head(t))
	s.CatchUp(t)
	requireTime(t, decode[[]object](t, c.must("GET", "/api/keys", nil, 200))[0]["last_used"])
}

func TestAKeyWorksUntilItExpires(t *testing.T) {
	t.Parallel()
	clock := make(chan time.Time, 1)
	clock <- time.Now()
	s := resttest.Start(t, func(c *rest.Config) {
		c.Now = func() time.Time { now := <-clock; clock <- now; return now }
	})
	c, _ := register(t, s)
	key := c.do("POST", "/api/keys", object{"name": "ci", "expires_at": time.Now().Add(time.Hour)}, 201)["key"].(string)
	program := newClient(t, s).bearing(key)
	program.do("GET", "/api/auth/me", nil, 200)
	<-clock
	clock <- time.Now().Add(time.Hour)
	require.Contains(t, program.do("GET", "/api/auth/me", nil, 401)["error"], "expired")
}

func TestEveryEventKnowsWhoAskedForItAndInWhichRequest(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, who := register(t, s)
	created := c.do("POST", "/api/keys", object{"name": "ci"}, 201)
	request := uuid.New()
	account := uuid.MustParse(who["user"].(object)["id"].(string))
	for _, asked := range []struct {
		by   client
		want domain.Actor
	}{
		{c, domain.Actor{Kind: domain.ActorUser, ID: account}},
		{newClient(t, s).bearing(created["key"].(string)), domain.Actor{
			Kind: domain.ActorAPIKey, ID: uuid.MustParse(created["id"].(string)), Prefix: created["prefix"].(string),
		}},
	} {
		id := asked.by.with("X-Request-Id", request.String()).createFunction("hello")
		for event, err := range s.Store.ReadStream(t.Context(), uuid.MustParse(id), 0) {
			require.NoError(t, err)
			require.Equal(t, asked.want, event.Actor)
			require.Equal(t, request, event.CorrelationID)
			require.Equal(t, account, event.AccountID)
		}
	}
}

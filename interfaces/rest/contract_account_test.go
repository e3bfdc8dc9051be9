package rest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

func TestAnErasedAccountIsNobodyFromThenOn(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, who := register(t, s)
	email := who["user"].(object)["email"].(string)
	function := c.createFunction("mine")
	execution := c.execute(function)
	key := c.do("POST", "/api/keys", object{"name": "ci"}, 201)["key"].(string)
	program := newClient(t, s).bearing(key)
	program.do("GET", "/api/auth/me", nil, 200)
	other, _ := register(t, s)
	theirs := other.createFunction("theirs")

	require.Contains(t, c.do("DELETE", "/api/account", nil, 200)["message"], "erased")

	for _, credential := range []client{c, program} {
		for _, path := range []string{"/api/auth/me", "/api/functions", "/api/functions/" + function, "/api/executions/" + execution, "/api/keys"} {
			requireRefusal(t, credential.must("GET", path, nil, 401), 401, path)
		}
		credential.do("POST", "/api/functions/"+function+"/execute", nil, 401)
		credential.do("DELETE", "/api/account", nil, 401)
	}
	nobody := newClient(t, s)
	nobody.do("POST", "/api/auth/refresh", object{"refresh_token": who["refresh_token"]}, 401)
	c.do("POST", "/api/auth/refresh", nil, 401)
	login := nobody.do("POST", "/api/auth/login", object{"email": email, "password": "lovelace"}, 401)
	require.Equal(t, "Invalid email or password", login["error"])

	require.Equal(t, theirs, other.do("GET", "/api/functions/"+theirs, nil, 200)["id"], "another account is untouched")
	again := nobody.do("POST", "/api/auth/register", object{"email": email, "password": "lovelace", "name": "Ada"}, 201)
	require.NotEqual(t, who["user"].(object)["id"], again["user"].(object)["id"])
	require.JSONEq(t, "[]", string(nobody.bearing(again["token"].(string)).must("GET", "/api/functions", nil, 200).body))
}

func TestAnErasureIsNotForProgramsAndNotForTheWrongPassword(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	key := c.do("POST", "/api/keys", object{"name": "ci"}, 201)["key"].(string)
	head := s.Head(t)
	got := requireRefusal(t, newClient(t, s).bearing(key).must("DELETE", "/api/account", nil, 403), 403, "an API key")
	require.Equal(t, "forbidden", got["code"])
	got = requireRefusal(t, c.must("DELETE", "/api/account", object{"password": "byron"}, 400), 400, "another password")
	require.Equal(t, "password", got["fields"].([]any)[0].(object)["field"])
	for _, body := range []string{`{"password":1}`, `{"pass":"lovelace"}`, `[]`} {
		require.Equal(t, 400, c.call("DELETE", "/api/account", body).StatusCode, body)
	}
	s.CatchUp(t)
	require.LessOrEqual(t, s.Head(t), head+1, "nothing but the use of the key was written")
	c.do("DELETE", "/api/account", object{"password": "lovelace"}, 200)
	c.do("GET", "/api/auth/me", nil, 401)
}

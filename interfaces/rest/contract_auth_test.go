package rest_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

func keys(o object) []string {
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestAnAccountRegistersLogsInAndIsKnown(t *testing.T) {
	t.Parallel()
	c := newClient(t, resttest.Start(t))
	registered := c.do("POST", "/api/auth/register", object{"email": "Ada@Example.com", "password": "lovelace", "name": "Ada"}, 201)
	require.Equal(t, []string{"expires_at", "refresh_token", "token", "user"}, keys(registered))
	require.Equal(t, []string{"email", "id", "name"}, keys(registered["user"].(object)))
	require.Equal(t, "Ada@Example.com", registered["user"].(object)["email"])
	requireTime(t, registered["expires_at"])

	loggedIn := c.do("POST", "/api/auth/login", object{"email": "ada@example.COM", "password": "lovelace"}, 200)
	require.Equal(t, registered["user"], loggedIn["user"])
	for _, token := range []any{registered["token"], loggedIn["token"]} {
		me := c.bearing(token.(string)).do("GET", "/api/auth/me", nil, 200)
		require.Equal(t, object{"user": registered["user"]}, me)
	}

	taken := c.do("POST", "/api/auth/register", object{"email": "ADA@example.com", "password": "lovelace", "name": "Ada"}, 400)
	require.Equal(t, "Email already registered", taken["error"])
	for _, wrong := range []object{
		{"email": "ada@example.com", "password": "lovelacE"}, {"email": "nobody@example.com", "password": "lovelace"},
	} {
		require.Equal(t, "Invalid email or password", c.do("POST", "/api/auth/login", wrong, 401)["error"])
	}
}

func TestASessionIsRefreshedByEitherToken(t *testing.T) {
	t.Parallel()
	c, first := register(t, resttest.Start(t))
	second := c.do("POST", "/api/auth/refresh", nil, 200)
	require.Equal(t, keys(first), keys(second))
	require.Equal(t, first["user"], second["user"])
	require.NotEqual(t, first["refresh_token"], second["refresh_token"])

	stale := c.bearing("an access token that has expired")
	third := stale.do("POST", "/api/auth/refresh", object{"refresh_token": second["refresh_token"]}, 200)
	c.bearing(third["token"].(string)).do("GET", "/api/auth/me", nil, 200)

	// The one that was exchanged comes again: whoever has the newest is signed out too.
	c.do("POST", "/api/auth/refresh", object{"refresh_token": second["refresh_token"]}, 401)
	c.do("POST", "/api/auth/refresh", object{"refresh_token": third["refresh_token"]}, 401)
	c.bearing(third["token"].(string)).do("POST", "/api/auth/refresh", nil, 401)
}

package rest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/eventstore/storetest"
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
	require.Equal(t, keys(registered), keys(loggedIn))
	require.Equal(t, registered["user"], loggedIn["user"])
	requireTime(t, loggedIn["expires_at"])
	require.NotEqual(t, registered["refresh_token"], loggedIn["refresh_token"])
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
	require.NotEmpty(t, second["refresh_token"])
	require.NotEqual(t, first["refresh_token"], second["refresh_token"])
	requireTime(t, second["expires_at"])

	stale := c.bearing("an access token that has expired")
	third := stale.do("POST", "/api/auth/refresh", object{"refresh_token": second["refresh_token"]}, 200)
	c.bearing(third["token"].(string)).do("GET", "/api/auth/me", nil, 200)

	// The one that was exchanged comes again: whoever has the newest is signed out too.
	c.do("POST", "/api/auth/refresh", object{"refresh_token": second["refresh_token"]}, 401)
	c.do("POST", "/api/auth/refresh", object{"refresh_token": third["refresh_token"]}, 401)
	c.bearing(third["token"].(string)).do("POST", "/api/auth/refresh", nil, 401)
}

// Whether an address is registered must not be told by the time that the answer takes, most of which is the hashing of
// the password.
func TestALoginTakesTheSameTimeWhicheverIsWrong(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	slow, err := commands.NewPasswords(bcrypt.MinCost + 4) // tens of milliseconds, far more than all the rest
	require.NoError(t, err)
	*s.Commands = *commands.New(s.Store, s.Store, storetest.Codec(s.Store), slow, nil)
	c := newClient(t, s)
	c.do("POST", "/api/auth/register", object{"email": "ada@example.com", "password": "lovelace", "name": "Ada"}, 201)

	refused := func(email string) time.Duration {
		start := time.Now()
		c.do("POST", "/api/auth/login", object{"email": email, "password": "wrong"}, 401)
		return time.Since(start)
	}
	var unknown, wrong []time.Duration
	for range 7 {
		unknown = append(unknown, refused("nobody@example.com"))
		wrong = append(wrong, refused("ada@example.com"))
	}
	slices.Sort(unknown)
	slices.Sort(wrong)
	require.Greater(t, unknown[3], wrong[3]/2, "an unknown address is refused sooner")
	require.Greater(t, wrong[3], unknown[3]/2, "a wrong password is refused sooner")
}

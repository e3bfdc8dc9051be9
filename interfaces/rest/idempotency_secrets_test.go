package rest_test

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// What is told again must work as what was told at first: tokens open, keys open.
func TestSecretsThatAreToldAgainWork(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, route := range []string{"POST /api/auth/register", "POST /api/auth/login", "POST /api/auth/refresh", "POST /api/keys"} {
		r, c, body := target{route: route}, s.keyed(uuid.NewString()), s.posts()[route]
		c.call("POST", s.path(r), body)
		forgetAnswers(t, s.Server)
		told := decode[object](t, c.call("POST", s.path(r), body))
		for _, secret := range []any{told["token"], told["key"]} {
			if secret != nil {
				newClient(t, s.Server).bearing(secret.(string)).must("GET", "/api/auth/me", nil, 200)
			}
		}
		if told["refresh_token"] != nil {
			newClient(t, s.Server).must("POST", "/api/auth/refresh", object{"refresh_token": told["refresh_token"]}, 200)
		}
	}
}

func TestAKeyIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stranger, other := register(t, s.Server)
	mine, theirs := s.keyed("k"), stranger.keyed("k")
	require.NotEqual(t, mine.must("POST", "/api/keys", object{"name": "n"}, 201).body, theirs.must("POST", "/api/keys", object{"name": "n"}, 201).body)

	// Nothing but the credential tells these two apart.
	require.Equal(t, s.who["user"], mine.do("POST", "/api/auth/refresh", nil, 200)["user"])
	require.Equal(t, other["user"], theirs.do("POST", "/api/auth/refresh", nil, 200)["user"])

	// The credential is the account's on routes for those who are signed in: a key goes on where a token has expired.
	made := s.do("POST", "/api/keys", object{"name": "ci"}, 201)
	program := newClient(t, s.Server).bearing(made["key"].(string)).keyed("shared")
	require.Equal(t, s.keyed("shared").must("POST", "/api/keys", object{"name": "n"}, 201).body, program.must("POST", "/api/keys", object{"name": "n"}, 201).body)
}

func TestNoSecretOfAnAnswerStandsInTheDatabase(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	key := uuid.NewString()
	shown := []string{key, "lovelace"}
	for route, body := range s.posts() {
		got := decode[object](t, s.keyed(key).call("POST", s.path(target{route: route}), body))
		for _, name := range []string{"token", "refresh_token", "key"} {
			if secret, ok := got[name].(string); ok {
				shown = append(shown, secret)
			}
		}
	}
	require.Greater(t, len(shown), 6)
	rows := databaseText(t, s.Server)
	require.Contains(t, rows, "request.carried_out")
	for _, secret := range shown {
		require.NotContains(t, rows, secret)
		require.NotContains(t, rows, hex.EncodeToString([]byte(secret)))
	}
}

// databaseText is every row of every table, in which bytes show as hex digits.
func databaseText(t *testing.T, s *resttest.Server) string {
	t.Helper()
	rows, err := s.Store.Pool().Query(t.Context(), "select relname from pg_stat_user_tables")
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, tables, "answers")
	var all strings.Builder
	for _, table := range tables {
		rows, err := s.Store.Pool().Query(t.Context(), "select t::text from "+pgx.Identifier{table}.Sanitize()+" t")
		require.NoError(t, err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		all.WriteString(strings.Join(texts, "\n"))
	}
	return all.String()
}

func TestAnswersAreForgottenWithTheirAccount(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for route, body := range s.posts() {
		s.keyed(uuid.NewString()).call("POST", s.path(target{route: route}), body)
	}
	account := s.who["user"].(object)["id"].(string)
	require.NoError(t, s.Store.Forget(context.Background(), uuid.MustParse(account)))
	var accounts []string
	require.NoError(t, s.Store.Pool().QueryRow(t.Context(), "select array_agg(account_id::text) from answers").Scan(&accounts))
	require.Len(t, accounts, 1, "only that of the account that was registered")
	require.NotEqual(t, account, accounts[0])
}

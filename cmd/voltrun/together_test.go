package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/proof"
)

// startTogether starts two servers at the same moment on a database without accounts.
func startTogether(t *testing.T, oneFolder bool, env ...string) (first, second *server) {
	t.Helper()
	first, second = newServer(t, env...), newServer(t, env...)
	if oneFolder {
		second.dataDir = first.dataDir
	}
	first.launch(t, "serve")
	second.launch(t, "serve")
	return first, second
}

func TestTwoServersThatStartTogetherOnAnEmptyDatabaseServeTheSame(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{
		"with one data folder": nil,
		"with the same keys": {
			"JWT_SECRET=" + newSecret(), "VOLTRUN_MASTER_KEY=" + newSecret(), "VOLTRUN_PROOF_KEY=" + proof.GenerateKey(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := startTogether(t, env == nil, append(env, "DATABASE_URL="+pgtest.Database(t))...)
			first.awaitHealthy(t)
			second.awaitHealthy(t)
			c := first.register(t)
			function := c.createFunction(t, "nodejs", "exports.handler = async () => 'here'")
			c.url = second.url()
			id, err := c.execute(t.Context(), function, nil)
			require.NoError(t, err)
			require.JSONEq(t, `"here"`, string(c.awaitEnd(t, id).Output))
			var me struct{ User struct{ Email string } }
			second.register(t).must(t, http.StatusOK, "GET", "/api/auth/me", nil, &me)
			require.NoError(t, first.stop(t))
			require.NoError(t, second.stop(t))
			require.Contains(t, first.run(t, "audit", "verify"), "OK: every event is there")
		})
	}
}

// The one that comes second would make a master key that nobody else has.
func TestOfTwoServersWithoutTheSameKeysOneServesAndTheOtherSaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	_, err := postgres.Migrate(t.Context(), database) // or the turns of the migrations would keep them apart
	require.NoError(t, err)
	first, second := startTogether(t, false, "DATABASE_URL="+database)
	select {
	case <-first.exited:
		first.process = nil
		first, second = second, first
	case <-second.exited:
		second.process = nil
	}
	first.awaitHealthy(t)
	require.Contains(t, second.output.String(), "the master key is missing")
	require.NotContains(t, strings.ToLower(second.output.String()), "data key of account")
	require.NoFileExists(t, filepath.Join(second.dataDir, masterKeyFile))
	first.register(t).must(t, http.StatusOK, "GET", "/api/functions", nil, nil)
}

package rest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The log is locked, so that exports stay under way.
func TestAnAccountHasTwoExportsUnderWayAtMost(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	other, _ := register(t, s.Server)
	s.must("GET", "/health", nil, 200) // the projections have read everything, and do not wait for the lock
	conn, err := s.Store.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	lock, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = lock.Rollback(context.Background()) }() // or nobody who waits for it ever ends
	_, err = lock.Exec(t.Context(), "lock table events in access exclusive mode")
	require.NoError(t, err)
	export := func(c client) <-chan answer {
		got := make(chan answer, 1)
		go func() { got <- c.with("Accept", "application/x-ndjson").call("GET", "/api/audit", "") }()
		return got
	}
	waiting := func(n int) {
		require.Eventually(t, func() bool {
			var found int
			err := s.Store.Pool().QueryRow(t.Context(), `select count(*) from pg_locks where not granted and relation = 'events'::regclass
				and database = (select oid from pg_database where datname = current_database())`).Scan(&found)
			return err == nil && found >= n
		}, 10*time.Second, 5*time.Millisecond)
	}
	first, second := export(s.client), export(s.client)
	waiting(2)
	refused := <-export(s.client)
	require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
	require.NotEmpty(t, refused.Header.Get("Retry-After"))
	require.Contains(t, decode[object](t, refused)["error"], "2 exports of this account are under way")
	bundle := s.call("GET", "/api/audit/bundle", "")
	require.Equal(t, http.StatusTooManyRequests, bundle.StatusCode)
	theirs := export(other)
	waiting(3)
	require.NoError(t, lock.Rollback(t.Context()))
	for _, got := range []<-chan answer{first, second, theirs} {
		require.Equal(t, http.StatusOK, (<-got).StatusCode)
	}
	require.Equal(t, http.StatusOK, (<-export(s.client)).StatusCode)
}

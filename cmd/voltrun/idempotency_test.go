package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/pgtest"
)

// keyedRequest is a POST with an idempotency key.
type keyedRequest struct {
	path, body, bearer, key string
	shows                   string // the field of the answer that tells what was made
	effects                 string // counts what was made
}

func (r keyedRequest) send(ctx context.Context, url string) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, "POST", url+r.path, bytes.NewReader([]byte(r.body)))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Idempotency-Key", r.key)
	if r.bearer != "" {
		request.Header.Set("Authorization", "Bearer "+r.bearer)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// The server is killed when each request has had its effect and none its answer. What is sent again to the next server has
// no second effect, and its answer names and shows what the first one had made.
func TestARequestIsAnsweredOnceAlthoughItsServerWasKilledBetweenEffectAndAnswer(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	s := newServer(t, "DATABASE_URL="+dsn)
	s.start(t)
	requests := keyedRequests(t, s)
	db, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer db.Close(context.Background())

	unlock := lockAnswers(t, dsn)
	var sent sync.WaitGroup
	for _, r := range requests {
		sent.Go(func() {
			status, answer, err := r.send(context.Background(), s.url())
			if err == nil && status != http.StatusServiceUnavailable { // given up is no answer
				t.Errorf("%s was answered with %d before the answer was kept: %s", r.path, status, answer)
			}
		})
	}
	require.Eventually(t, func() bool {
		return count(t, db, "select count(*) from events where type = 'request.carried_out'") == len(requests)
	}, time.Minute, 5*time.Millisecond)
	s.kill(t)
	sent.Wait()
	unlock()
	require.Zero(t, count(t, db, "select count(*) from answers"))
	effects := map[string]int{}
	for _, r := range requests {
		effects[r.path] = count(t, db, r.effects)
	}

	s.start(t)
	for _, r := range requests {
		status, first, err := r.send(t.Context(), s.url())
		require.NoError(t, err)
		require.Less(t, status, 300, "%s: %s", r.path, first)
		require.Equal(t, effects[r.path], count(t, db, r.effects), "%s had a second effect", r.path)
		requireWorks(t, s, r, first)
		_, again, err := r.send(t.Context(), s.url())
		require.NoError(t, err)
		require.Equal(t, string(first), string(again), r.path)
	}
	require.NoError(t, s.stop(t))
}

// keyedRequests is one request for each thing that can be made.
func keyedRequests(t *testing.T, s *server) []keyedRequest {
	t.Helper()
	c := client{url: s.url()}
	credentials := map[string]string{"email": uuid.NewString() + "@example.com", "password": "correct horse", "name": "Test"}
	var account struct {
		Token        string
		RefreshToken string `json:"refresh_token"`
	}
	c.must(t, http.StatusCreated, "POST", "/api/auth/register", credentials, &account)
	c.bearer = account.Token
	function := c.createFunction(t, "nodejs", "exports.handler = async () => 1")
	events := func(eventType string) string { return "select count(*) from events where type = '" + eventType + "'" }
	list := []keyedRequest{
		{path: "/api/auth/register", body: `{"email":"eve@example.com","password":"correct horse","name":"Eve"}`, shows: "token", effects: events("account.registered")},
		{path: "/api/auth/login", body: jsonText(credentials["email"], "email", credentials["password"], "password"), shows: "token", effects: events("session.started")},
		{path: "/api/auth/refresh", body: jsonText(account.RefreshToken, "refresh_token"), shows: "refresh_token", effects: events("session.refreshed")},
		{path: "/api/functions", body: `{"name":"n","runtime":"nodejs","code":"exports.handler = async () => 2"}`, bearer: c.bearer, shows: "id", effects: events("function.created")},
		{path: "/api/functions/" + function.String() + "/execute", body: `{"input":1}`, bearer: c.bearer, shows: "execution_id", effects: events("execution.requested")},
		{path: "/api/keys", body: `{"name":"ci"}`, bearer: c.bearer, shows: "key", effects: events("key.created")},
	}
	for i := range list {
		list[i].key = uuid.NewString()
	}
	return list
}

// jsonText is an object of these values and names.
func jsonText(pairs ...string) string {
	object := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		object[pairs[i+1]] = pairs[i]
	}
	text, _ := json.Marshal(object) // strings always can be encoded
	return string(text)
}

// lockAnswers lets nobody keep an answer until unlock is called. Answers can be looked up all the while.
func lockAnswers(t *testing.T, dsn string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "begin; lock table answers in share mode")
	require.NoError(t, err)
	return func() { _ = conn.Close(context.Background()) }
}

func count(t *testing.T, db *pgx.Conn, query string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), query).Scan(&n))
	return n
}

// requireWorks uses what an answer shows.
func requireWorks(t *testing.T, s *server, r keyedRequest, answer []byte) {
	t.Helper()
	var body map[string]any
	require.NoError(t, json.Unmarshal(answer, &body))
	shown, _ := body[r.shows].(string)
	require.NotEmpty(t, shown, "%s: %s", r.path, answer)
	c := client{s.url(), r.bearer}
	switch r.shows {
	case "token", "key":
		client{s.url(), shown}.must(t, http.StatusOK, "GET", "/api/auth/me", nil, nil)
	case "refresh_token":
		c.must(t, http.StatusOK, "POST", "/api/auth/refresh", map[string]string{"refresh_token": shown}, nil)
	case "id":
		c.must(t, http.StatusOK, "GET", "/api/functions/"+shown, nil, nil)
	case "execution_id":
		c.awaitEnd(t, uuid.MustParse(shown)) // as it may: its worker was killed perhaps
	}
}

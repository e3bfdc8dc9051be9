package rest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// The tests run far from Greenwich, so that a time which is not in UTC shows.
func TestMain(m *testing.M) {
	time.Local = time.FixedZone("Kathmandu", 5*3600+45*60)
	os.Exit(m.Run())
}

// client calls a test server as somebody.
type client struct {
	t      testing.TB
	url    string
	header http.Header
}

func newClient(t testing.TB, s *resttest.Server) client {
	return client{t: t, url: s.URL, header: http.Header{}}
}

// with returns the same client with one more header.
func (c client) with(name, value string) client {
	c.header = c.header.Clone()
	c.header.Set(name, value)
	return c
}

func (c client) bearing(token string) client { return c.with("Authorization", "Bearer "+token) }

// answer is what came back.
type answer struct {
	*http.Response
	body []byte
}

// call sends a body as it is.
func (c client) call(method, path, body string) answer {
	c.t.Helper()
	r, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	require.NoError(c.t, err)
	r.Header = c.header.Clone()
	response, err := http.DefaultClient.Do(r)
	require.NoError(c.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	return answer{response, content}
}

// do sends a value as JSON, wants a status and decodes the answer.
func (c client) do(method, path string, body object, status int) object {
	c.t.Helper()
	return decode[object](c.t, c.must(method, path, body, status))
}

// must sends a value as JSON, nothing for nil, and wants a status.
func (c client) must(method, path string, body object, status int) answer {
	c.t.Helper()
	var text string
	if body != nil {
		text = jsonOf(body)
	}
	got := c.call(method, path, text)
	require.Equal(c.t, status, got.StatusCode, "%s %s: %.500s", method, path, got.body)
	return got
}

func jsonOf(body object) string {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // tests write what JSON can hold
	}
	return string(text)
}

func decode[T any](t testing.TB, a answer) T {
	t.Helper()
	var value T
	require.Contains(t, a.Header.Get("Content-Type"), "application/json")
	require.NoError(t, json.NewDecoder(bytes.NewReader(a.body)).Decode(&value), "%.500s", a.body)
	return value
}

type object = map[string]any

// register opens an account of its own and returns a client that is signed in, and what the server answered.
func register(t testing.TB, s *resttest.Server) (client, object) {
	t.Helper()
	c := newClient(t, s)
	got := c.do("POST", "/api/auth/register", object{
		"email": "ada-" + uuid.NewString() + "@example.com", "password": "lovelace", "name": "Ada",
	}, http.StatusCreated)
	return c.bearing(got["token"].(string)), got
}

// createFunction makes a function and returns its id.
func (c client) createFunction(name string) string {
	c.t.Helper()
	got := c.do("POST", "/api/functions", object{"name": name, "runtime": "nodejs", "code": "exports.handler = async () => 1"}, http.StatusCreated)
	return got["id"].(string)
}

// execute accepts an execution and returns its id.
func (c client) execute(function string) string {
	c.t.Helper()
	got := c.do("POST", "/api/functions/"+function+"/execute", object{"input": object{"name": "Ada"}}, http.StatusCreated)
	return got["execution_id"].(string)
}

var nextLink = regexp.MustCompile(`^<([^?>]*)\?([^>]*)>; rel="next"$`)

// walk follows a list's links from its first page to its end and returns the ids of all items. Each link has to repeat the query.
func (c client) walk(path, query string) (ids []string) {
	c.t.Helper()
	for next := path + "?" + query; next != ""; {
		page := c.must("GET", next, nil, http.StatusOK)
		for _, item := range decode[[]object](c.t, page) {
			ids = append(ids, item["id"].(string))
		}
		require.Less(c.t, len(ids), 1000, "the list has no end")
		next = ""
		if link := page.Header.Get("Link"); link != "" {
			match := nextLink.FindStringSubmatch(link)
			require.NotNil(c.t, match, link)
			require.Equal(c.t, path, match[1])
			for parameter := range strings.SplitSeq(query, "&") {
				require.Contains(c.t, strings.Split(match[2], "&"), parameter)
			}
			next = match[1] + "?" + match[2]
		}
	}
	return ids
}

// work plays the worker of an execution: it prints lines and ends in end, or goes on running when that is nil.
func work(t testing.TB, s *resttest.Server, execution string, end domain.Event, lines ...string) {
	t.Helper()
	attempt, err := s.Commands.ClaimExecution.Handle(t.Context(), uuid.MustParse(execution), uuid.New())
	require.NoError(t, err)
	var printed []domain.ExecutionLogLine
	for _, line := range lines {
		printed = append(printed, domain.ExecutionLogLine{Stream: domain.Stdout, Text: line, At: time.Now().UTC()})
	}
	require.NoError(t, s.Commands.ReportExecution.Handle(t.Context(), attempt, printed, end))
	s.CatchUp(t)
}

// requireTime wants a time in RFC 3339 and UTC.
func requireTime(t testing.TB, value any) {
	t.Helper()
	text, _ := value.(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(text, "Z"), text)
	require.WithinDuration(t, time.Now(), at, 48*time.Hour)
}

package rest_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// internals are words that only somebody who reads our source could understand.
var internals = regexp.MustCompile(`\b(SQL|sql|pgx)|[Pp]ostgres|goroutine|\.go:\d|/root/|/tmp/|reflect|json: |[Uu]nmarshal|strconv|domain\.|commands\.|0x[0-9a-f]{6}|invalid UUID|runtime error|nil pointer`)

// requireRefusal wants an error as the contract has it: the status, a sentence, and nothing internal.
func requireRefusal(t *testing.T, got answer, status int, what string) object {
	t.Helper()
	require.Equal(t, status, got.StatusCode, "%s: %.500s", what, got.body)
	require.NotRegexp(t, internals, string(got.body), what)
	body := decode[object](t, got)
	sentence, _ := body["error"].(string)
	require.Greater(t, len(sentence), 10, what)
	require.EqualValues(t, status, body["status"], what)
	require.Equal(t, got.Header.Get("X-Request-Id"), body["request_id"], what)
	return body
}

func TestTheTablesOfTheseTestsNameEveryRoute(t *testing.T) {
	t.Parallel()
	var named []string
	for _, r := range targets {
		named = append(named, r.route)
	}
	require.ElementsMatch(t, resttest.Start(t).API.Routes(), named)
}

func TestMalformedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.nothingChanges(t, func() {
		for _, r := range targets {
			if r.valid == nil {
				continue
			}
			for _, body := range malformed(r) {
				requireRefusal(t, s.call(r.method(), s.path(r), body), 400, r.route+" "+body[:min(len(body), 100)])
			}
		}
	})
}

func malformed(r target) []string {
	first := slices.Sorted(func(yield func(string) bool) {
		for name := range r.valid {
			if !yield(name) {
				return
			}
		}
	})[0]
	return []string{
		"{", "}", "nonsense", "[]", "null", `"text"`, "7", "{}{}", `{"` + first + `":`, `{"` + first + `":}`, "{'" + first + "':1}", "\x00", "\ufeff{}",
		"{\"" + first + "\":\"a\x00b\"}", "{\"" + first + "\":\"\xff\"}", "{\"" + first + "\":\"\xed\xa0\x80\"}",
		`{"` + first + `":"a","` + first + `":"a"}`, `{"surprise":1}`, `{"` + strings.ToUpper(first) + `":"a"}`,
		strings.Repeat("[", 12_000), strings.Repeat(`{"a":`, 3_000), " ",
		`{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		"a=1&b=2", "--boundary\r\n", "<xml/>",
	}
}

func TestFieldsOfTheWrongTypeAreNamed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.nothingChanges(t, func() {
		for _, r := range targets {
			for field := range r.valid {
				for _, value := range wrongValues(r, field) {
					what := fmt.Sprintf("%s %s=%s", r.route, field, value)
					got := requireRefusal(t, s.call(r.method(), s.path(r), `{"`+field+`":`+value+`}`), 400, what)
					fields := got["fields"].([]any)[0].(object)
					require.Equal(t, field, fields["field"], what)
					require.Contains(t, fields["message"], field+" must be ", what)
					require.Contains(t, got["error"], field, what)
				}
			}
		}
	})
}

func wrongValues(r target, field string) []string {
	switch {
	case field == "input": // may be anything
		return []string{strings.Repeat("[", 101) + strings.Repeat("]", 101)}
	case field == "execution.log_line": // null is a value here
		return []string{`"128"`, "1.5", "1e99", "99999999999999999999", "true", "[]", "{}"}
	case slices.Contains(r.ints, field):
		return []string{`"128"`, "1.5", "1e99", "1e2", "128.0", "99999999999999999999", "true", "null", "[]", "{}"}
	}
	return []string{"1", "true", "null", `["a"]`, `{"a":1}`}
}

func TestValuesOutOfBoundsAreNamed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	long := func(n int) string { return strings.Repeat("x", n) }
	fn := func(changed object) object {
		body := object{"name": "n", "runtime": "nodejs", "code": "c"}
		for name, value := range changed {
			body[name] = value
		}
		return body
	}
	account := func(email, password, name string) object {
		return object{"email": email, "password": password, "name": name}
	}
	s.nothingChanges(t, func() {
		for _, c := range []struct {
			route string
			body  object
			field string
		}{
			{"POST /api/auth/register", object{}, "email"},
			{"POST /api/auth/register", account("no address", "secret", "N"), "email"},
			{"POST /api/auth/register", account("a\u0000@example.com", "secret", "N"), "email"},
			{"POST /api/auth/register", account(long(300)+"@example.com", "secret", "N"), "email"},
			{"POST /api/auth/register", account("a@example.com", "short", "N"), "password"},
			{"POST /api/auth/register", account("a@example.com", long(2000), "N"), "password"},
			{"POST /api/auth/register", account("a@example.com", "secret", " "), "name"},
			{"POST /api/auth/register", account("a@example.com", "secret", "a\u0000"), "name"},
			{"POST /api/auth/login", object{}, "email"},
			{"POST /api/auth/login", object{"email": "a@example.com"}, "password"},
			{"POST /api/functions", object{}, "name"},
			{"POST /api/functions", fn(object{"name": long(101)}), "name"},
			{"POST /api/functions", fn(object{"name": "a\u0000b"}), "name"},
			{"POST /api/functions", fn(object{"description": long(1001)}), "description"},
			{"POST /api/functions", fn(object{"code": " "}), "code"},
			{"POST /api/functions", fn(object{"code": "a\u0000b"}), "code"},
			{"POST /api/functions", fn(object{"code": long(domain.MaxCodeBytes + 1)}), "code"},
			{"POST /api/functions", fn(object{"runtime": "cobol"}), "runtime"},
			{"POST /api/functions", fn(object{"runtime": "nodejs18"}), "runtime"},
			{"POST /api/functions", fn(object{"entry_point": "../../etc/passwd.handler"}), "entry_point"},
			{"POST /api/functions", fn(object{"memory_mb": 63}), "memory_mb"},
			{"POST /api/functions", fn(object{"memory_mb": 3009}), "memory_mb"},
			{"POST /api/functions", fn(object{"timeout_sec": 0}), "timeout_sec"},
			{"POST /api/functions", fn(object{"timeout_sec": 901}), "timeout_sec"},
			{"PUT /api/functions/{id}", object{"status": "deleted"}, "status"},
			{"PUT /api/functions/{id}", object{"memory_mb": -1}, "memory_mb"},
			{"PUT /api/functions/{id}", object{"name": ""}, "name"},
			{"POST /api/keys", object{}, "name"},
			{"POST /api/keys", object{"name": "n", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"},
		} {
			r := target{route: c.route}
			got := requireRefusal(t, s.must(r.method(), s.path(r), c.body, 400), 400, c.route)
			require.Equal(t, c.field, got["fields"].([]any)[0].(object)["field"], c.route)
		}
	})
}

func TestBodiesOverTheLimitAreRefusedBeforeTheyAreHeld(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.nothingChanges(t, func() {
		for _, r := range targets {
			if r.valid == nil {
				continue
			}
			got := requireRefusal(t, s.call(r.method(), s.path(r), strings.Repeat(" ", r.limit+1)), 413, r.route)
			require.Contains(t, got["error"], fmt.Sprint(r.limit))
		}
	})
	tooLong := `{"input":"` + strings.Repeat("x", domain.MaxInputBytes) + `"}`
	requireRefusal(t, s.call("POST", "/api/functions/"+s.ids["functions"]+"/execute", tooLong), 413, "an input over the domain's limit")
}

func TestSomebodyElsesThingsAreAsAbsentAsThoseThatNeverWere(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stranger, _ := register(t, s.Server)
	s.nothingChanges(t, func() {
		for _, r := range targets {
			if !r.hasID() {
				continue
			}
			foreign := s.idFor(r)
			var messages []string
			for _, id := range []string{foreign, uuid.NewString()} {
				got := requireRefusal(t, stranger.must(r.method(), r.at(id), r.valid, 404), 404, r.route)
				messages = append(messages, strings.ReplaceAll(got["error"].(string), id, "…"))
			}
			require.Equal(t, messages[0], messages[1], r.route)
		}
	})
	for _, list := range []string{"/api/functions", "/api/executions", "/api/keys", "/api/executions?function_id=" + s.ids["functions"]} {
		require.JSONEq(t, "[]", string(stranger.must("GET", list, nil, 200).body), list)
	}
}

func TestWhatIsNoIDNamesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.nothingChanges(t, func() {
		for _, r := range targets {
			if !r.hasID() {
				continue
			}
			real := s.idFor(r)
			for _, id := range []string{
				"1", "%00", "%ff", "..", "%2e%2e", "a%2fb", "'%20or%201=1--", strings.Repeat("x", 5000), "é", uuid.Nil.String(),
				"{" + real + "}", "urn:uuid:" + real, real + "0", real[:35], real + "%00", real + "%20",
			} {
				got := requireRefusal(t, s.must(r.method(), r.at(id), r.valid, 404), 404, r.route+" "+id[:min(len(id), 60)])
				require.Less(t, len(got["error"].(string)), 400)
			}
		}
	})
}

func TestWrongQueriesAreRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, query := range []string{
		"executions?limit=0", "executions?limit=201", "executions?limit=x", "executions?status=done", "executions?status=%00",
		"executions?status=%ff", "executions?function_id=7", "executions?cursor=%3c", "executions?cursor=7", "executions?%zz",
		"executions?limit=1;limit=2", "functions?limit=0", "functions?limit=1001", "functions?cursor=7", "functions?%zz",
		"keys?limit=0", "keys?limit=1001", "keys?cursor=7", "keys?%zz",
	} {
		requireRefusal(t, s.call("GET", "/api/"+query, ""), 400, query)
	}
}

func TestWhatIsNotThereIsSaidInJSON(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, path := range []string{
		"/api", "/api/", "/api/nothing", "/api/functions/", "//api/functions", "/api/../api/functions", "/API/functions", "/nothing", "/index.html",
		"/embed.go", "/%00", "/.env", "/api/functions/" + s.ids["functions"] + "/execute/", "/" + strings.Repeat("x", 9000),
	} {
		requireRefusal(t, s.call("GET", path, ""), 404, path[:min(len(path), 60)])
	}
}

func TestAMethodThatAPathDoesNotHaveIsAnsweredWithThoseItHas(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	methods := map[string][]string{}
	for _, r := range targets {
		methods[r.template()] = append(methods[r.template()], r.method())
	}
	s.nothingChanges(t, func() {
		for path, has := range methods {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} {
				if slices.Contains(has, method) {
					continue
				}
				got := s.call(method, target{route: method + " " + path}.at(uuid.NewString()), "")
				requireRefusal(t, got, 405, method+" "+path)
				for _, allowed := range has {
					require.Contains(t, got.Header.Get("Allow"), allowed)
				}
			}
			options := s.call("OPTIONS", target{route: "OPTIONS " + path}.at(uuid.NewString()), "")
			require.Equal(t, http.StatusNoContent, options.StatusCode)
			require.NotEmpty(t, options.Header.Get("Allow"))
		}
	})
}

func TestABodyThatIsAnnouncedTooLargeIsRefusedBeforeItComes(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = fmt.Fprint(conn, "POST /api/auth/login HTTP/1.1\r\nHost: voltrun\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
}

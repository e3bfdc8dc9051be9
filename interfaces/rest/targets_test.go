package rest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// target is a route with what it takes to reach it.
type target struct {
	route string
	valid object   // a body that would be accepted; nil when the route reads none
	ints  []string // the fields that are whole numbers; all others are strings, but for input
	limit int      // the longest body
}

const (
	small    = 16 << 10
	function = 6*domain.MaxCodeBytes + 64<<10
)

var targets = []target{
	{"POST /api/auth/register", object{"email": "new@example.com", "password": "secret", "name": "N"}, nil, small},
	{"POST /api/auth/login", object{"email": "new@example.com", "password": "secret"}, nil, small},
	{"POST /api/auth/refresh", object{"refresh_token": "vrr_x"}, nil, small},
	{"GET /api/auth/me", nil, nil, 0},
	{"GET /api/account/retention", nil, nil, 0},
	{"PUT /api/account/retention", object{"execution.log_line": 30}, []string{"execution.log_line"}, small},
	{"DELETE /api/account", object{"password": "lovelace"}, nil, small},
	{"GET /api/functions", nil, nil, 0},
	{"POST /api/functions", object{"name": "n", "runtime": "nodejs", "code": "c", "description": "d", "entry_point": "index.handler", "memory_mb": 128, "timeout_sec": 30, "concurrency": 1, "network": "none"}, []string{"memory_mb", "timeout_sec", "concurrency"}, function},
	{"GET /api/functions/{id}", nil, nil, 0},
	{"PUT /api/functions/{id}", object{"name": "n", "code": "c", "description": "d", "entry_point": "index.handler", "status": "active", "memory_mb": 128, "timeout_sec": 30, "concurrency": 1, "network": "none"}, []string{"memory_mb", "timeout_sec", "concurrency"}, function},
	{"DELETE /api/functions/{id}", nil, nil, 0},
	{"GET /api/functions/{id}/events", nil, nil, 0},
	{"POST /api/functions/{id}/execute", object{"input": 1}, nil, domain.MaxInputBytes + 64<<10},
	{"POST /api/functions/{id}/invoke", nil, nil, domain.MaxInputBytes},
	{"GET /api/executions", nil, nil, 0},
	{"GET /api/executions/{id}", nil, nil, 0},
	{"GET /api/executions/{id}/logs", nil, nil, 0},
	{"GET /api/executions/{id}/events", nil, nil, 0},
	{"GET /api/audit", nil, nil, 0},
	{"GET /api/keys", nil, nil, 0},
	{"POST /api/keys", object{"name": "n", "expires_at": "2030-01-31T12:00:00Z"}, nil, small},
	{"DELETE /api/keys/{id}", nil, nil, 0},
	{"GET /api/admin/projections", nil, nil, 0},
	{"GET /api/admin/projections/{name}/rebuild", nil, nil, 0},
	{"POST /api/admin/projections/{name}/rebuild", nil, nil, small},
	{"DELETE /api/admin/projections/{name}/rebuild", nil, nil, 0},
	{"POST /api/admin/projections/{name}/resume", nil, nil, small},
	{"GET /api/admin/erasures", nil, nil, 0},
	{"GET /api/audit/checkpoint", nil, nil, 0},
	{"GET /api/audit/consistency", nil, nil, 0},
	{"GET /api/audit/bundle", nil, nil, 0},
	{"GET /api/audit/events/{position}/proof", nil, nil, 0},
	{"GET /health", nil, nil, 0},
	{"GET /", nil, nil, 0},
	{"GET /style.css", nil, nil, 0},
	{"GET /icon.svg", nil, nil, 0},
}

func (r target) method() string { method, _, _ := strings.Cut(r.route, " "); return method }

func (r target) template() string { _, path, _ := strings.Cut(r.route, " "); return path }

func (r target) at(id string) string {
	return strings.NewReplacer("{id}", id, "{name}", "keys").Replace(r.template())
}

func (r target) hasID() bool { return strings.Contains(r.route, "{id}") }

func (r target) public() bool {
	return !strings.HasPrefix(r.template(), "/api/") || strings.HasPrefix(r.template(), "/api/auth/") && r.template() != "/api/auth/me"
}

// stage is a server with somebody who is signed in, and one function, execution and key of theirs.
type stage struct {
	*resttest.Server
	client
	ids map[string]string // by the noun in the path
	who object
}

func newStage(t *testing.T) stage {
	s := resttest.Start(t)
	c, who := register(t, s)
	function := c.createFunction("hello")
	return stage{s, c, map[string]string{
		"functions": function, "executions": c.execute(function),
		"keys": c.do("POST", "/api/keys", object{"name": "ci"}, 201)["id"].(string),
	}, who}
}

// path is the target's path with the id of what is really there.
func (s stage) path(r target) string { return r.at(s.idFor(r)) }

func (s stage) idFor(r target) string {
	if !r.hasID() {
		return ""
	}
	return s.ids[strings.Split(r.template(), "/")[2]]
}

// nothingChanges runs a part of a test that must leave the log as it was.
func (s stage) nothingChanges(t *testing.T, part func()) {
	t.Helper()
	before := s.Head(t)
	part()
	require.Equal(t, before, s.Head(t), "a refused request wrote something")
}

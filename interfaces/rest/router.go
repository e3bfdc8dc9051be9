package rest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/voltrun/voltrun/domain"
)

// access says who may call a route.
type access int

const (
	anyone    access = iota
	signedIn         // whoever has an access token or an API key
	operators        // whoever runs this VoltRun; for everybody else there is nothing
)

// The longest bodies, in bytes.
const (
	noBody       = 0 // the body is not read
	smallBody    = 16 << 10
	functionBody = 6*domain.MaxCodeBytes + 64<<10 // a character of code may take six bytes of JSON ("\u0001")
	executeBody  = domain.MaxInputBytes + 64<<10
)

// handler answers a request with a status and a body, or with an error, which is turned into both in one place.
type handler func(ctx context.Context, r *request) (status int, body any, err error)

type route struct {
	method string
	path   string
	access access
	limit  int64
	handle handler
}

const (
	healthPath  = "/health"
	executePath = "/api/functions/{id}/execute"
	invokePath  = "/api/functions/{id}/invoke"
)

// routes is the whole API.
func (a *API) routes() []route {
	return []route{
		{"POST", "/api/auth/register", anyone, smallBody, a.register},
		{"POST", "/api/auth/login", anyone, smallBody, a.logIn},
		{"POST", "/api/auth/refresh", anyone, smallBody, a.refresh},
		{"GET", "/api/auth/me", signedIn, noBody, a.me},
		{"DELETE", "/api/account", signedIn, smallBody, a.eraseAccount},

		{"GET", "/api/account/retention", signedIn, noBody, a.getRetention},
		{"PUT", "/api/account/retention", signedIn, smallBody, a.setRetention},

		{"GET", "/api/functions", signedIn, noBody, a.listFunctions},
		{"POST", "/api/functions", signedIn, functionBody, a.createFunction},
		{"GET", "/api/functions/{id}", signedIn, noBody, a.getFunction},
		{"PUT", "/api/functions/{id}", signedIn, functionBody, a.updateFunction},
		{"DELETE", "/api/functions/{id}", signedIn, noBody, a.deleteFunction},
		{"GET", "/api/functions/{id}/events", signedIn, noBody, a.eventsOf("function")},
		{"POST", executePath, signedIn, executeBody, a.execute},
		{"POST", invokePath, signedIn, domain.MaxInputBytes, a.invoke},

		{"GET", "/api/executions", signedIn, noBody, a.listExecutions},
		{"GET", "/api/executions/{id}", signedIn, noBody, a.getExecution},
		{"GET", "/api/executions/{id}/logs", signedIn, noBody, a.getLogs},
		{"GET", "/api/executions/{id}/events", signedIn, noBody, a.eventsOf("execution")},

		{"GET", "/api/audit", signedIn, noBody, a.listAudit},

		{"GET", "/api/keys", signedIn, noBody, a.listKeys},
		{"POST", "/api/keys", signedIn, smallBody, a.createKey},
		{"DELETE", "/api/keys/{id}", signedIn, noBody, a.deleteKey},

		{"GET", "/api/audit/checkpoint", signedIn, noBody, a.getCheckpoint},
		{"GET", "/api/audit/consistency", signedIn, noBody, a.getConsistency},
		{"GET", "/api/audit/bundle", signedIn, noBody, a.getBundle},
		{"GET", "/api/audit/events/{position}/proof", signedIn, noBody, a.getEventProof},

		// The bodies count for nothing but to tell apart requests with the same idempotency key.
		{"GET", "/api/admin/projections", operators, noBody, a.listProjections},
		{"GET", "/api/admin/projections/{name}/rebuild", operators, noBody, a.showRebuild},
		{"POST", "/api/admin/projections/{name}/rebuild", operators, smallBody, a.startRebuild},
		{"DELETE", "/api/admin/projections/{name}/rebuild", operators, noBody, a.cancelRebuild},
		{"POST", "/api/admin/projections/{name}/resume", operators, smallBody, a.resumeProjection},
		{"GET", "/api/admin/erasures", operators, noBody, a.showErasures},

		{"GET", healthPath, anyone, noBody, a.checkHealth},

		{"GET", "/", anyone, noBody, servePage},
		{"GET", "/style.css", anyone, noBody, serveFile("style.css")},
		{"GET", "/icon.svg", anyone, noBody, serveFile("icon.svg")},
	}
}

func (a *API) router() http.Handler {
	router := mux.NewRouter().SkipClean(true) // a path that is nearly right is 404, not a redirect that loses the body
	paths := map[string]*resource{}
	for _, rt := range a.routes() {
		if paths[rt.path] == nil {
			paths[rt.path] = &resource{api: a, path: rt.path, byMethod: map[string]route{}}
			router.Handle(rt.path, paths[rt.path])
		}
		paths[rt.path].byMethod[rt.method] = rt
	}
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, r, nothingAt(r))
	})
	return router
}

func nothingAt(r *http.Request) error {
	return domain.Errorf(domain.NotFound, "There is nothing at %s. GET / says what there is.", shorten(r.URL.Path))
}

// resource is a path with its methods.
type resource struct {
	api      *API
	path     string
	byMethod map[string]route
}

func (s *resource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	traceOf(r.Context()).route = s.path
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http leaves the body out
	}
	rt, ok := s.byMethod[method]
	if !ok {
		s.refuseMethod(w, r)
		return
	}
	s.api.serve(rt, w, r)
}

func (s *resource) refuseMethod(w http.ResponseWriter, r *http.Request) {
	allowed := s.allowed()
	w.Header().Set("Allow", allowed)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.api.writeProblem(w, r, problem{
		Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
		Error: fmt.Sprintf("%s is not a method of %s, which has: %s.", shorten(r.Method), s.path, allowed),
	})
}

func (s *resource) allowed() string {
	methods := []string{http.MethodOptions}
	for method := range s.byMethod {
		methods = append(methods, method)
	}
	if _, ok := s.byMethod[http.MethodGet]; ok {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// answerWithin bounds what happens between a request that was read and its answer.
const answerWithin = 15 * time.Second

// within says how long a request may take. What waits for a function may take as long as the function.
func within(path string, r *http.Request) time.Duration {
	if path == invokePath || path == executePath && r.Header.Values("Prefer") != nil {
		return invokeWithin
	}
	return answerWithin
}

func (a *API) serve(rt route, w http.ResponseWriter, r *http.Request) {
	status, body, err := a.answer(rt, w, r)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	a.write(w, r, status, body)
}

// answer finds out who is asking before it reads what they want, so that nobody else can make the server hold a large
// body.
func (a *API) answer(rt route, w http.ResponseWriter, r *http.Request) (int, any, error) {
	req := &request{Request: r, commands: a.handlers, response: w.Header()}
	var err error
	switch rt.access {
	case signedIn:
		req.caller, err = a.authenticate(r)
	case operators:
		req.caller, err = a.authenticateOperator(r)
	}
	if err != nil {
		return 0, nil, err
	}
	if req.body, err = readBody(w, r, rt.limit); err != nil {
		return 0, nil, err
	}
	limit := within(rt.path, r)
	if limit > answerWithin {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + answerWithin)) // else the server's own counts
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	if rt.method == http.MethodPost && r.Header.Values(idempotencyHeader) != nil {
		return a.once(ctx, rt, req)
	}
	return rt.handle(ctx, req)
}

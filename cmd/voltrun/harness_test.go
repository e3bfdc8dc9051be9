package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// asServer makes the test binary be voltrun itself, so that tests can start and kill real servers.
const asServer = "VOLTRUN_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
		return
	}
	if dsn := os.Getenv(asFloor); dsn != "" {
		listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
		if err == nil {
			err = serveFloor(dsn, listener)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// server is a voltrun process of its own, on a data folder and a port that stay the same over its restarts.
type server struct {
	dataDir string
	port    string
	env     []string
	process *exec.Cmd
	exited  chan error
	output  *output
	stderr  io.Writer // where the output goes instead; nil: to output
}

// output collects what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// newServer returns a server that is not started yet. Whatever runs of it at the end of the test is killed.
func newServer(t testing.TB, env ...string) *server {
	t.Helper()
	s := &server{dataDir: publicTempDir(t), port: freePort(t), env: env}
	t.Cleanup(func() {
		if s.process != nil {
			s.kill(t)
		}
		if t.Failed() && s.output != nil {
			t.Logf("the server's last output:\n%s", lastLines(s.output.String(), 40))
		}
	})
	return s
}

// publicTempDir is a folder that the user of the private Postgres can reach as well.
func publicTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "voltrun-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func freePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

func (s *server) url() string { return "http://127.0.0.1:" + s.port }

// launch starts the process without waiting for anything.
func (s *server) launch(t testing.TB, args ...string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	s.output = &output{}
	s.process = exec.Command(self, args...)
	s.process.Env = append(os.Environ(), append([]string{
		asServer + "=1", "VOLTRUN_DATA=" + s.dataDir, "PORT=" + s.port, "DATABASE_URL=", "JWT_SECRET=",
	}, s.env...)...)
	s.process.Stdout, s.process.Stderr = s.output, s.output
	if s.stderr != nil {
		s.process.Stderr = s.stderr
	}
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, s.process.Start())
	s.exited = make(chan error, 1)
	go func(process *exec.Cmd, exited chan error) { exited <- process.Wait() }(s.process, s.exited)
}

// start starts the server and waits until it is healthy.
func (s *server) start(t testing.TB) {
	t.Helper()
	s.launch(t, "serve")
	s.awaitHealthy(t)
}

func (s *server) awaitHealthy(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		response, err := http.Get(s.url() + "/health")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-s.exited:
			s.process = nil
			t.Fatalf("the server ended while it started (%v):\n%s", err, s.output)
		case <-time.After(20 * time.Millisecond):
		}
		require.True(t, time.Now().Before(deadline), "the server is not healthy:\n%s", s.output)
	}
}

// kill is kill -9, without a word to anything that the server started.
func (s *server) kill(t testing.TB) {
	t.Helper()
	_ = s.process.Process.Kill() // it may have ended by itself
	<-s.exited
	s.process = nil
}

// stop is Ctrl-C. It returns when the process has ended, and how.
func (s *server) stop(t *testing.T) error {
	t.Helper()
	require.NoError(t, s.process.Process.Signal(os.Interrupt))
	select {
	case err := <-s.exited:
		s.process = nil
		return err
	case <-time.After(stopTimeout + closeTimeout):
		t.Fatalf("the server does not stop:\n%s", s.output)
		return nil
	}
}

// postgresPID is the private server's postmaster.
func (s *server) postgresPID() (int, error) {
	content, err := os.ReadFile(filepath.Join(s.dataDir, "postgres", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(content), "\n")
	return strconv.Atoi(first)
}

// killPostgres is kill -9 for the postmaster. It returns when another one serves: the old one's backends go on for a
// moment, and so the server may seem healthy in between.
func (s *server) killPostgres(t *testing.T) {
	t.Helper()
	killed, err := s.postgresPID()
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		pid, err := s.postgresPID()
		return err == nil && pid != killed
	}, time.Minute, 5*time.Millisecond, "Postgres is not started again")
	s.awaitHealthy(t)
}

// client calls a server's API with a bearer token or an API key.
type client struct {
	url    string
	bearer string
}

// call sends a request and decodes the answer into result, unless that is nil.
func (c client) call(ctx context.Context, method, path string, body, result any) (status int, err error) {
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, reader)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+c.bearer)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if result == nil {
		return response.StatusCode, nil
	}
	if err := json.Unmarshal(content, result); err != nil {
		return response.StatusCode, fmt.Errorf("%s %s answered %d with %q: %w", method, path, response.StatusCode, content, err)
	}
	return response.StatusCode, nil
}

// must is call that has to be answered with this status.
func (c client) must(t testing.TB, status int, method, path string, body, result any) {
	t.Helper()
	var raw json.RawMessage
	got, err := c.call(context.Background(), method, path, body, &raw)
	require.NoError(t, err)
	require.Equal(t, status, got, "%s %s: %s", method, path, raw)
	if result != nil {
		require.NoError(t, json.Unmarshal(raw, result))
	}
}

// register opens an account and returns its client, which uses an API key: that outlives every restart.
func (s *server) register(t testing.TB) client {
	t.Helper()
	var account struct{ Token string }
	email := fmt.Sprintf("%s@example.com", uuid.New())
	client{url: s.url()}.must(t, http.StatusCreated, "POST", "/api/auth/register",
		map[string]string{"email": email, "password": "correct horse", "name": "Test"}, &account)
	var key struct{ Key string }
	client{s.url(), account.Token}.must(t, http.StatusCreated, "POST", "/api/keys", map[string]string{"name": "test"}, &key)
	return client{s.url(), key.Key}
}

func (c client) createFunction(t testing.TB, runtime, code string) uuid.UUID {
	t.Helper()
	var function struct{ ID uuid.UUID }
	c.must(t, http.StatusCreated, "POST", "/api/functions", map[string]any{"name": "test", "runtime": runtime, "code": code}, &function)
	return function.ID
}

type execution struct {
	ID           uuid.UUID
	Status       domain.ExecutionStatus
	Output       json.RawMessage
	Error        string
	ErrorType    string `json:"error_type"`
	Logs         string
	DurationMS   int64 `json:"duration_ms"`
	LogsArchived bool  `json:"logs_archived"`
	MemoryUsed   int   `json:"memory_used"`
}

func (x execution) ended() bool {
	return x.Status == domain.ExecutionSuccess || x.Status == domain.ExecutionFailure
}

// execute asks for a run and returns its id when it was accepted.
func (c client) execute(ctx context.Context, function uuid.UUID, input any) (uuid.UUID, error) {
	var accepted struct {
		ExecutionID uuid.UUID `json:"execution_id"`
		Error       string
	}
	status, err := c.call(ctx, "POST", "/api/functions/"+function.String()+"/execute", map[string]any{"input": input}, &accepted)
	if err != nil {
		return uuid.Nil, err
	}
	if status != http.StatusCreated {
		return uuid.Nil, errors.New(accepted.Error)
	}
	return accepted.ExecutionID, nil
}

// awaitEnd waits until an execution has ended.
func (c client) awaitEnd(t *testing.T, id uuid.UUID) execution {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		var x execution
		c.must(t, http.StatusOK, "GET", "/api/executions/"+id.String(), nil, &x)
		if x.ended() {
			return x
		}
		require.True(t, time.Now().Before(deadline), "execution %s is still %s", id, x.Status)
		time.Sleep(10 * time.Millisecond)
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

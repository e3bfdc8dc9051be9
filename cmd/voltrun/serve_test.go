package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/interfaces/cli"
)

func TestTheObjectGraphIsComplete(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, fx.ValidateApp(graph(t.Context(), config{}, slog.New(slog.DiscardHandler), &out, nil, &resources{})))
}

func TestOneCommandRunsFunctionsAndCtrlCEndsEverything(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	var shown bytes.Buffer
	require.NoError(t, cli.Demo(t.Context(), s.url(), &shown), shown.String())
	require.Contains(t, shown.String(), "Hello, Ada!")
	require.Contains(t, s.output.String(), "VoltRun dev is ready")

	postgres, err := s.postgresPID()
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, s.stop(t), s.output)
	require.Less(t, time.Since(began), 10*time.Second)
	require.ErrorIs(t, syscall.Kill(postgres, 0), syscall.ESRCH, "Postgres ends with the server")
}

func TestASecondServerOnTheSameFolderSaysSoAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	before := listing(t, s.dataDir)

	second := &server{dataDir: s.dataDir, port: freePort(t)}
	second.launch(t, "serve")
	require.Error(t, <-second.exited)
	require.Contains(t, second.output.String(), s.dataDir)
	require.Contains(t, second.output.String(), "nothing in "+s.dataDir+" was touched")
	require.Equal(t, before, listing(t, s.dataDir))
	s.awaitHealthy(t)
}

// listing is every file of a data folder with its size and time, but for those that a running Postgres keeps writing.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		switch filepath.Base(filepath.Dir(path)) {
		case "pg_wal", "pg_stat", "pg_stat_tmp", "pg_notify", "pg_xact", "pg_subtrans":
			return err
		}
		if err != nil || strings.HasPrefix(path, filepath.Join(dir, "postgres", "base")) || d.Name() == "pg_control" || d.Name() == "postgres.log" {
			return err
		}
		files = append(files, fmt.Sprint(path, " ", info.Size(), " ", info.ModTime()))
		return nil
	}))
	return files
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	other := newServer(t)
	other.port = s.port
	other.launch(t, "serve")
	require.Error(t, <-other.exited)
	other.process = nil
	require.Contains(t, other.output.String(), "127.0.0.1:"+s.port)
	require.Contains(t, other.output.String(), "PORT")
	require.NotContains(t, other.output.String(), "is ready")
	require.NoDirExists(t, filepath.Join(other.dataDir, "postgres"), "a start that cannot succeed begins nothing")
}

func TestADatabaseOfOnesOwnIsUsedByURLAndByKeywords(t *testing.T) {
	t.Parallel()
	keywords := pgtest.Database(t)
	s := newServer(t, "DATABASE_URL="+keywords)
	s.start(t)
	require.NoDirExists(t, filepath.Join(s.dataDir, "postgres"))
	c := s.register(t)
	require.NoError(t, s.stop(t))

	s.env = []string{"DATABASE_URL=" + asURL(keywords)}
	s.start(t)
	c.must(t, http.StatusOK, "GET", "/api/functions", nil, nil)
}

// asURL writes a keyword string of simple values as a URL.
func asURL(keywords string) string {
	var parameters []string
	database := ""
	for _, pair := range strings.Fields(keywords) {
		key, value, _ := strings.Cut(pair, "=")
		value = strings.Trim(value, "'")
		if key == "dbname" {
			database = value
			continue
		}
		parameters = append(parameters, key+"="+strings.ReplaceAll(value, "/", "%2F"))
	}
	return "postgres:///" + database + "?" + strings.Join(parameters, "&")
}

func TestAccessTokensOutliveARestart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	var account struct{ Token string }
	client{url: s.url()}.must(t, http.StatusCreated, "POST", "/api/auth/register",
		map[string]string{"email": "ada@example.com", "password": "correct horse", "name": "Ada"}, &account)
	info, err := os.Stat(filepath.Join(s.dataDir, "jwt_secret"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	s.kill(t)
	s.start(t)
	client{s.url(), account.Token}.must(t, http.StatusOK, "GET", "/api/auth/me", nil, nil)
}

// running tells whether a process of this host has the title.
func running(t *testing.T, title string) bool {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, line := range lines {
		if content, err := os.ReadFile(line); err == nil && strings.HasPrefix(string(content), title) {
			return true
		}
	}
	return false
}

func TestFunctionsEndWithTheServer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c := s.register(t)
	title := "voltrun-test-" + uuid.NewString() // by which its process is known on the host
	function := c.createFunction(t, "nodejs", `process.title = '`+title+`';
		exports.handler = () => { console.log(process.title); return new Promise(() => setInterval(() => {}, 1000)); }`)
	id, err := c.execute(t.Context(), function, nil)
	require.NoError(t, err)
	var logs struct{ Logs string }
	require.Eventually(t, func() bool {
		c.must(t, http.StatusOK, "GET", "/api/executions/"+id.String()+"/logs", nil, &logs)
		return logs.Logs != ""
	}, 30*time.Second, 20*time.Millisecond, "what a function prints is seen while it runs")
	require.True(t, running(t, title))
	s.kill(t)
	require.Eventually(t, func() bool { return !running(t, title) }, 10*time.Second, 10*time.Millisecond)

	s.start(t)
	x := c.awaitEnd(t, id)
	require.Equal(t, "WorkerLost", x.ErrorType)
}

func TestRunningFunctionsAreStoppedAndRecordedWhenTheServerStops(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c := s.register(t)
	function := c.createFunction(t, "python", "import time\ndef handler(event):\n    print('on it')\n    time.sleep(event)\n    return 'done'\n")
	short, err := c.execute(t.Context(), function, 2)
	require.NoError(t, err)
	long, err := c.execute(t.Context(), function, 600)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var running []execution
		c.must(t, http.StatusOK, "GET", "/api/executions?status=running", nil, &running)
		return len(running) == 2
	}, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, s.stop(t), s.output)
	s.start(t)
	require.Equal(t, json.RawMessage(`"done"`), c.awaitEnd(t, short).Output, "a run may finish within the grace period")
	require.Equal(t, "WorkerStopped", c.awaitEnd(t, long).ErrorType)
}

// A terminal that is closed sends SIGHUP, and whatever read the output is gone.
func TestAClosedTerminalIsAnOrderlyEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	s.stderr = writer
	s.start(t)
	require.NoError(t, writer.Close())
	c := s.register(t)
	function := c.createFunction(t, "python", "import time\ndef handler(event):\n    time.sleep(event)\n    return 'done'\n")
	id, err := c.execute(t.Context(), function, 2)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var x execution
		c.must(t, http.StatusOK, "GET", "/api/executions/"+id.String(), nil, &x)
		return x.Status == "running"
	}, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, reader.Close())
	require.NoError(t, s.process.Process.Signal(syscall.SIGHUP))
	require.NoError(t, <-s.exited)
	s.process, s.stderr = nil, nil
	s.start(t)
	require.Equal(t, json.RawMessage(`"done"`), c.awaitEnd(t, id).Output)
}

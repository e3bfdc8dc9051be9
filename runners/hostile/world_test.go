package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/runners"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// secret stands wherever only the server may read.
const secret = "voltrun-hostile-secret"

// temporaryFolder makes the folder in which all that the server of these tests leaves behind would be.
func temporaryFolder() (string, error) {
	folder, err := os.MkdirTemp("", "voltrun-hostile-")
	if err == nil {
		err = os.Chmod(folder, 0o711)
	}
	if err == nil {
		err = os.Setenv("TMPDIR", folder)
	}
	if err == nil {
		err = os.Setenv("VOLTRUN_TEST_SECRET", secret)
	}
	return folder, err
}

// world is a server's pool, what is around it to be attacked, and a function that others should leave alone.
type world struct {
	first    bool // of the drivers that are tried
	driver   sandbox.Driver
	pool     *runners.Pool
	bait     input
	contacts atomic.Int64 // connections that reached the server
	before   hostState

	neighbour     chan domain.Event
	stopNeighbour context.CancelFunc
	groups        string // the name of the folder of the server's control groups
}

func newWorld(t *testing.T, driver string) *world {
	w := &world{neighbour: make(chan domain.Event, 1)}
	w.bait = input{Attack: true, Server: os.Getpid(), Postgres: postgresSocket(t)}
	w.putUpFiles(t)
	w.listen(t)
	runtimes := runners.DiscoverRuntimes(t.Context())
	w.before = stateOf(t)
	d, err := sandbox.Choose(t.Context(), driver, sandbox.Options{})
	if err != nil && driver != sandbox.Auto {
		t.Skip(err)
	}
	require.NoError(t, err)
	w.driver = d
	w.pool, err = runners.NewPool(runners.PoolConfig{
		Driver: d, Runtimes: runtimes, Stems: 2, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Limits: sandbox.Limits{TmpMB: 16, Processes: 64, OpenFiles: 128, FileMB: 64},
	})
	require.NoError(t, err)
	w.haveNeighbour(t)
	return w
}

// putUpFiles makes a file that everybody on the host may read and change.
func (w *world) putUpFiles(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	for _, f := range []string{folder, filepath.Dir(folder)} {
		require.NoError(t, os.Chmod(f, 0o755))
	}
	w.bait.Canary, w.bait.Temporary = filepath.Join(folder, "canary"), os.TempDir()
	require.NoError(t, os.WriteFile(w.bait.Canary, []byte(secret), 0o666))
	require.NoError(t, os.Chmod(w.bait.Canary, 0o666))
	w.bait.Unix = filepath.Join(folder, "socket")
}

// listen opens what a server could be reached by.
func (w *world) listen(t *testing.T) {
	t.Helper()
	tcp, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	path, err := net.Listen("unix", w.bait.Unix)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(w.bait.Unix, 0o777))
	w.bait.Abstract = "voltrun-hostile-" + uuid.NewString()
	abstract, err := net.Listen("unix", "@"+w.bait.Abstract)
	require.NoError(t, err)
	for _, l := range []net.Listener{tcp, path, abstract} {
		t.Cleanup(func() { _ = l.Close() })
		go w.count(l)
	}
	port := tcp.Addr().(*net.TCPAddr).Port
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		if ip := a.(*net.IPNet).IP; !ip.IsLinkLocalUnicast() {
			w.bait.Addresses = append(w.bait.Addresses, addr{ip.String(), port})
		}
	}
}

func (w *world) count(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		w.contacts.Add(1)
		_ = c.Close()
	}
}

// postgresSocket is where a server's private Postgres listens.
func postgresSocket(t *testing.T) string {
	t.Helper()
	var folder, port string
	for _, field := range strings.Fields(pgtest.Server(t).DSN()) {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "host":
			folder = strings.Trim(value, "'")
		case "port":
			port = value
		}
	}
	return filepath.Join(folder, ".s.PGSQL."+port)
}

// haveNeighbour starts a function that runs until it is stopped, and finds its process on the host.
func (w *world) haveNeighbour(t *testing.T) {
	t.Helper()
	f := newFunction("python", `import os, time
def handler(e):
    hidden = 'voltrun-hostile-' + 'secret'
    open('mine', 'w').write(hidden)
    os.chmod('mine', 0o777)
    print(os.path.dirname(__file__), os.getcwd(), os.getuid(), flush=True)
    time.sleep(800)`)
	f.TimeoutSec = domain.MaxTimeoutSec
	ctx, stop := context.WithCancel(context.Background())
	w.stopNeighbour = stop
	line := make(chan string, 1)
	go func() {
		w.neighbour <- w.pool.Run(ctx, runners.Invocation{ExecutionID: uuid.New(), Function: f, Input: []byte(`{}`)},
			func(l domain.ExecutionLogLine) { line <- l.Text })
	}()
	select {
	case said := <-line:
		about := strings.Fields(said)
		w.bait.Slot, w.bait.Home = about[0], about[1]
		w.bait.Neighbour = processOf(t, about[2])
	case end := <-w.neighbour:
		t.Fatalf("the neighbour ended as %s", shown(end))
	}
	w.bait.First = 1
	if w.driver.Enforcement().Driver == "native" {
		w.bait.First = w.bait.Neighbour // there the first process is the function's own
	}
	w.groups = groupOf(t, w.bait.Neighbour)
}

// recorded is what a run printed and how it ended.
type recorded struct {
	end   domain.Event
	lines []domain.ExecutionLogLine
}

var marks atomic.Int64

func (w *world) input() input {
	in := w.bait
	in.Mark = strconv.FormatInt(int64(os.Getpid())*10_000+200_000_000+marks.Add(1), 10)
	return in
}

func (w *world) run(t *testing.T, f domain.Function, in input) (r recorded) {
	t.Helper()
	data, err := json.Marshal(in)
	require.NoError(t, err)
	r.end = w.pool.Run(t.Context(), runners.Invocation{ExecutionID: uuid.New(), Function: f, Input: data}, func(l domain.ExecutionLogLine) {
		r.lines = append(r.lines, l)
	})
	return r
}

func newFunction(runtime, code string) domain.Function {
	return domain.Function{
		ID: uuid.New(), AccountID: uuid.New(), Version: 1, Name: "hostile", Runtime: runtime, Code: code, Status: domain.FunctionActive,
		EntryPoint: domain.DefaultEntryPoint, MemoryMB: domain.DefaultMemoryMB, TimeoutSec: 20, Network: domain.NetworkNone,
	}
}

// end stops the server and looks for what is left of all that the handlers did.
func (w *world) end(t *testing.T) {
	w.requireUnharmed(t)
	w.stopNeighbour()
	<-w.neighbour
	require.NoError(t, w.pool.Close())
	require.NoError(t, w.driver.Close())
	w.requireNothingLeft(t)
}

// requireUnharmed checks what holds at any time.
func (w *world) requireUnharmed(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(w.bait.Canary)
	require.NoError(t, err)
	require.Equal(t, secret, string(content), "the canary")
	require.Zero(t, w.contacts.Load(), "somebody has reached the server")
	require.Equal(t, w.before.settings, settings(t), "the kernel's settings")
	require.False(t, stopped(w.bait.Server) || stopped(w.bait.Neighbour), "the server and the neighbour go on")
}

// requireGone waits until no process of an attack is left.
func (w *world) requireGone(t *testing.T, mark string) {
	t.Helper()
	var left []int
	require.Eventually(t, func() bool { left = marked(mark); return len(left) == 0 }, patience, 10*time.Millisecond, "processes are left: %v", left)
}

func (w *world) requireNothingLeft(t *testing.T) {
	t.Helper()
	require.Empty(t, controlGroups(t, w.groups), "control groups")
	require.Eventually(t, func() bool { return fmt.Sprint(stateOf(t)) == fmt.Sprint(w.before) }, patience, 50*time.Millisecond,
		"the host is not as it was before:\n%+v\n%+v", w.before, stateOf(t))
}

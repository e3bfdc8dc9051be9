package privatepg

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// helperVariable makes the test binary a process that starts a server on the named data folder, reports, and stops it
// when its stdin ends. Tests kill such processes, and run them as other users.
const helperVariable = "PRIVATEPG_TEST_HELPER_DATA"

// commandVariable is the helper's Config.Command.
const commandVariable = "PRIVATEPG_TEST_HELPER_COMMAND"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperVariable); dir != "" {
		os.Exit(helper(dir))
	}
	os.Exit(m.Run())
}

// report is what a helper process says about its start.
type report struct {
	DSN, Error string
	PID        int
	InUse      bool
	Info       Info
}

func helper(dir string) int {
	s, err := Start(context.Background(), Config{DataDir: dir, Command: os.Getenv(commandVariable)})
	if err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(report{Error: err.Error(), InUse: IsInUse(err)})
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(report{DSN: s.DSN(), PID: s.PID(), Info: s.Info()})
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Stop(context.Background()); err != nil {
		return 1
	}
	return 0
}

// helperProcess is a running helper.
type helperProcess struct {
	report
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout io.Reader
}

// startHelper runs a helper on a data folder, as another user when uid is not 0, and waits for its report.
func startHelper(t *testing.T, dir string, uid uint32, env ...string) *helperProcess {
	t.Helper()
	h := launchHelper(t, dir, uid, env...)
	line, err := bufio.NewReader(h.stdout).ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, &h.report))
	return h
}

// launchHelper is startHelper without waiting.
func launchHelper(t *testing.T, dir string, uid uint32, env ...string) *helperProcess {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	if uid != 0 {
		cmd = exec.Command(openCopy(t, self))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{}}}
	}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), helperVariable + "=" + dir}
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = t.Output()
	h := &helperProcess{cmd: cmd}
	h.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	h.stdout, err = cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = h.stdin.Close()
		_ = cmd.Wait()
	})
	return h
}

// kill ends the helper as kill -9 does.
func (h *helperProcess) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, h.cmd.Process.Kill())
	_ = h.cmd.Wait()
}

// stop ends the helper in order.
func (h *helperProcess) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, h.stdin.Close())
	require.NoError(t, h.cmd.Wait())
}

// openCopy is a copy of an executable that every user can execute.
func openCopy(t *testing.T, executable string) string {
	t.Helper()
	path := filepath.Join(openDir(t), "helper")
	content, err := os.ReadFile(executable)
	require.NoError(t, err)
	// No test may fork meanwhile: its child would hold the file open for writing, and so keep it from being executed.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	require.NoError(t, os.WriteFile(path, content, 0o755))
	return path
}

// openDir is a temporary folder that other users can pass through, unlike t.TempDir.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "privatepg-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// start starts a server that the test's end stops.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	require.NoError(t, s.Stop(t.Context()))
}

// query runs one statement and returns its only value as text.
func query(t *testing.T, dsn, sql string, args ...any) string {
	t.Helper()
	value, err := tryQuery(t.Context(), dsn, sql, args...)
	require.NoError(t, err)
	return value
}

func tryQuery(ctx context.Context, dsn, sql string, args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var value any
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return "", err
	}
	for rows.Next() {
		if err := rows.Scan(&value); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(value), rows.Err()
}

// asRoot skips a test that needs to change users.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// needsNamespaces skips a test where the system does not let anybody make user namespaces, as containers may not.
func needsNamespaces(t *testing.T) {
	t.Helper()
	a, ok := disguised()
	cmd := exec.Command("true")
	a.prepare(cmd)
	if err := cmd.Run(); !ok || err != nil {
		t.Skipf("needs user namespaces: %v", err)
	}
}

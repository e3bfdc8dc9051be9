package runners

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// serverOfItsOwn makes the test binary a server that runs functions from its stdin, one after the other. Its value is
// the server's umask.
const serverOfItsOwn = "VOLTRUN_TEST_SERVER"

// serve prints where the server's folder is, and then what each function prints and how it ends.
func serve() int {
	fmt.Println(plain.launcher.workspaces.root)
	for in := json.NewDecoder(os.Stdin); ; {
		var f domain.Function
		if err := in.Decode(&f); err != nil {
			return 0
		}
		end := plain.Run(context.Background(), Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(`{}`)},
			func(line domain.ExecutionLogLine) { fmt.Println(line.Text) })
		if completed, ok := end.(domain.ExecutionCompleted); ok {
			fmt.Println(string(completed.Output))
		} else {
			fmt.Printf("%+v\n", end)
		}
	}
}

func setUmask(octal string) {
	umask, err := strconv.ParseInt(octal, 8, 0)
	if err != nil {
		panic(err)
	}
	syscall.Umask(int(umask))
}

// server is a server of its own.
type server struct {
	*exec.Cmd
	folder string
	stdin  io.WriteCloser
	stdout *bufio.Scanner
}

// startServer starts a server with a umask, as another user when uid is not 0.
func startServer(t *testing.T, umask string, uid uint32) *server {
	t.Helper()
	s := &server{Cmd: exec.Command(os.Args[0])}
	s.Env = append(os.Environ(), serverOfItsOwn+"="+umask)
	s.Stderr = t.Output()
	if uid != 0 {
		home := homeFor(t, uid)
		s.Path, s.Dir = filepath.Join(home, "server"), home
		s.Env = append(s.Env, "HOME="+home, "TMPDIR="+home)
		s.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	var err error
	s.stdin, err = s.StdinPipe()
	require.NoError(t, err)
	stdout, err := s.StdoutPipe()
	require.NoError(t, err)
	s.stdout = bufio.NewScanner(stdout)
	require.NoError(t, s.Start())
	t.Cleanup(func() {
		_ = s.stdin.Close()
		_ = s.Wait()
		_ = os.RemoveAll(s.folder) // of one that was killed
	})
	s.folder = s.line(t)
	return s
}

// homeFor is a folder of that user's own, with a copy of this binary in it.
func homeFor(t *testing.T, uid uint32) string {
	t.Helper()
	home, err := os.MkdirTemp("", "voltrun-home-") // unlike t.TempDir, it is in a folder that everybody may enter
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	binary, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	// No test may fork meanwhile: its child would hold the file open for writing, and so keep it from being executed.
	syscall.ForkLock.RLock()
	err = os.WriteFile(filepath.Join(home, "server"), binary, 0o700)
	syscall.ForkLock.RUnlock()
	require.NoError(t, err)
	require.NoError(t, os.Chown(filepath.Join(home, "server"), int(uid), int(uid)))
	require.NoError(t, os.Chown(home, int(uid), int(uid)))
	return home
}

func (s *server) begin(t *testing.T, f domain.Function) {
	t.Helper()
	require.NoError(t, json.NewEncoder(s.stdin).Encode(f))
}

// line returns the next line that the server prints.
func (s *server) line(t *testing.T) string {
	t.Helper()
	require.True(t, s.stdout.Scan(), "the server should have printed a line")
	return s.stdout.Text()
}

// Both return who runs them.
var (
	nodeUser   = function("nodejs", "exports.handler = () => process.getuid()")
	pythonUser = function("python", "import os\ndef handler(event):\n    return os.getuid()")
)

func TestFunctionsRunWhateverTheServersUmaskIs(t *testing.T) {
	t.Parallel()
	s := startServer(t, "077", 0)
	for _, f := range []domain.Function{nodeUser, pythonUser} {
		s.begin(t, f)
		uid, err := strconv.Atoi(s.line(t))
		require.NoError(t, err)
		if os.Geteuid() == 0 {
			require.GreaterOrEqual(t, uid, 60_800, "nobody's number")
		} else {
			require.Equal(t, os.Getuid(), uid)
		}
	}
}

func TestAServerOfAnOrdinaryUserRunsFunctionsAsThatUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("every test runs so already")
	}
	const ordinary = 64_321 // nobody's
	s := startServer(t, "077", ordinary)
	for _, f := range []domain.Function{nodeUser, pythonUser} {
		s.begin(t, f)
		require.Equal(t, strconv.Itoa(ordinary), s.line(t))
	}
}

func TestFunctionsDieWithAServerThatIsKilled(t *testing.T) {
	t.Parallel()
	s := startServer(t, "022", 0)
	s.begin(t, function("python", "import os, time\nprint(os.getpid())\ndef handler(event):\n    time.sleep(63)"))
	pid, err := strconv.Atoi(s.line(t))
	require.NoError(t, err)
	require.True(t, alive(pid))

	require.NoError(t, s.Process.Kill())
	require.Eventually(t, func() bool { return !alive(pid) }, 5*time.Second, 10*time.Millisecond)
}

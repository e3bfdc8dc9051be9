package runners

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// serverOfItsOwn makes the test binary a server that runs one function until it is killed.
const serverOfItsOwn = "VOLTRUN_TEST_SERVER"

func serve() {
	fmt.Println(runner.workspaces.root)
	f := function("python", "import os, time\nprint(os.getpid())\ndef handler(event):\n    time.sleep(63)")
	runner.Run(context.Background(), Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(`{}`)},
		func(line domain.ExecutionLogLine) { fmt.Println(line.Text) })
}

func TestFunctionsDieWithAServerThatIsKilled(t *testing.T) {
	t.Parallel()
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), serverOfItsOwn+"=1")
	out, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	printed := bufio.NewScanner(out)
	require.True(t, printed.Scan())
	folder := printed.Text()
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	require.True(t, printed.Scan())
	pid, err := strconv.Atoi(printed.Text())
	require.NoError(t, err)
	require.True(t, alive(pid))

	require.NoError(t, server.Process.Kill())
	require.Error(t, server.Wait())
	require.Eventually(t, func() bool { return !alive(pid) }, 5*time.Second, 10*time.Millisecond)
}

package runners

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// What the benchmarks run does nothing.
var noops = map[string]domain.Function{
	"node":   function("nodejs", "exports.handler = async () => 1"),
	"python": function("python", "def handler(event):\n    return 1"),
}

// echoes answer each line with a line, as simply as their language can.
var echoes = map[string][]string{
	"node": {"/usr/bin/node", "-e", `const fs = require('fs'), b = Buffer.alloc(65536);
		for (;;) { const n = fs.readSync(0, b); if (!n) break; JSON.parse(b.toString('utf8', 0, n)); fs.writeSync(1, '1\n') }`},
	"python": {"/usr/bin/python3", "-c", "import os, json\nwhile True:\n    b = os.read(0, 65536)\n    if not b: break\n    json.loads(b)\n    os.write(1, b'1\\n')"},
}

func invokeNoop(b testing.TB, pool *Pool, f domain.Function) {
	end := pool.Run(b.Context(), Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(`{}`)}, func(domain.ExecutionLogLine) {})
	require.IsType(b, domain.ExecutionCompleted{}, end)
}

// A call of a process that waits for it, beside a child process that only echoes: the ratio is what VoltRun adds.
func BenchmarkWarm(b *testing.B) {
	for language, f := range noops {
		for _, c := range []struct {
			name string
			pool *Pool
		}{{"process", reused}, {"bwrap", runner}} {
			b.Run(language+"/"+c.name, func(b *testing.B) {
				ask := startEcho(b, language)
				invokeNoop(b, c.pool, f)
				var pool, echo time.Duration
				for b.Loop() {
					began := time.Now()
					ask()
					between := time.Now()
					invokeNoop(b, c.pool, f)
					echo, pool = echo+between.Sub(began), pool+time.Since(between)
				}
				b.ReportMetric(float64(pool.Nanoseconds())/float64(b.N), "pool-ns/op")
				b.ReportMetric(float64(echo.Nanoseconds())/float64(b.N), "echo-ns/op")
				b.ReportMetric(float64(pool)/float64(echo), "pool/echo")
			})
		}
	}
}

// startEcho starts an echo and returns what asks it once.
func startEcho(b *testing.B, language string) func() {
	cmd := exec.Command(echoes[language][0], echoes[language][1:]...)
	cmd.Env = []string{}
	stdin, err := cmd.StdinPipe()
	require.NoError(b, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	answers := bufio.NewReader(stdout)
	ask := func() {
		_, err := io.WriteString(stdin, "{}\n")
		require.NoError(b, err)
		_, err = answers.ReadString('\n')
		require.NoError(b, err)
	}
	ask()
	return ask
}

// A call of a function that was never called before, beside the bare interpreter that does nothing.
func BenchmarkCold(b *testing.B) {
	bare := map[string]*exec.Cmd{
		"node":   {Path: "/usr/bin/node", Args: []string{"node", "-e", "0"}, Env: []string{}},
		"python": {Path: "/usr/bin/python3", Args: []string{"python3", "-S", "-c", "0"}, Env: []string{}},
	}
	for language, f := range noops {
		for _, stems := range []int{DefaultStems, -1} {
			name := map[bool]string{true: "/stem", false: "/no stem"}[stems > 0]
			b.Run(language+name, func(b *testing.B) {
				config := runner.config
				config.Stems = stems
				pool, err := NewPool(config)
				require.NoError(b, err)
				defer func() { require.NoError(b, pool.Close()) }()
				var cold, alone time.Duration
				for b.Loop() {
					awaitStems(b, pool)
					f.ID = uuid.New()
					began := time.Now()
					invokeNoop(b, pool, f)
					cold += time.Since(began)
					cmd := *bare[language]
					began = time.Now()
					require.NoError(b, cmd.Run())
					alone += time.Since(began)
				}
				b.ReportMetric(cold.Seconds()*1000/float64(b.N), "cold-ms/op")
				b.ReportMetric(alone.Seconds()*1000/float64(b.N), "bare-ms/op")
				b.ReportMetric(float64(cold)/float64(alone), "cold/bare")
			})
		}
	}
}

// awaitStems waits until nobody starts stems any more, and none is missing.
func awaitStems(t testing.TB, pool *Pool) {
	t.Helper()
	require.Eventually(t, func() bool {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		return !pool.stocking
	}, 10*time.Second, time.Millisecond)
}

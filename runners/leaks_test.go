package runners

import (
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// The tests in this file are not parallel, so that nobody else opens anything meanwhile.

// withoutLeak fails when what was done in a pool leaves files or goroutines behind after its end.
func withoutLeak(t *testing.T, do func(pool *Pool)) {
	t.Helper()
	awaitStems(t, runner)
	awaitStems(t, plain)
	awaitStems(t, reused)
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	pool, err := NewPool(runner.config)
	require.NoError(t, err)
	do(pool)
	require.NoError(t, pool.Close())
	for range 500 {
		if openFiles(t) <= files && runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(10 * time.Millisecond) // the last ones are just going
	}
	require.Equal(t, []int{files, goroutines}, []int{openFiles(t), runtime.NumGoroutine()}, "open files and goroutines")
}

func openFiles(t *testing.T) int {
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(open)
}

func TestRunsLeaveNothingOpenBehind(t *testing.T) {
	withoutLeak(t, func(pool *Pool) {
		for range 3 {
			for _, f := range []domain.Function{
				function("nodejs", "exports.handler = () => 1"),
				function("python", "import subprocess\ndef handler(event):\n    subprocess.Popen(['sleep', '62'], start_new_session=True)"),
				function("python", "import os\nos._exit(1)"),
				function("python", "import os\ndef handler(event):\n    os.write(4, b'x')"),
			} {
				runOn(t.Context(), pool, f, `"`+strings.Repeat("x", 1<<20)+`"`)
			}
		}
	})
}

func TestProcessesMayBeKilledAtAnyTime(t *testing.T) {
	const callers, calls = 4, 500
	functions := []domain.Function{
		function("nodejs", "exports.handler = async (e) => { console.log('x'); return e }"),
		function("python", "def handler(event):\n    print('x')\n    return event"),
		function("nodejs", "exports.handler = (e) => new Promise((done) => setTimeout(done, 3, e))"),
	}
	var killed atomic.Int64
	withoutLeak(t, func(pool *Pool) {
		ctx, stop := context.WithCancel(t.Context())
		var killer, all sync.WaitGroup
		killer.Go(func() { killAtRandom(ctx, pool) })
		for range callers {
			all.Go(func() {
				for range calls {
					switch end := runOn(t.Context(), pool, functions[rand.IntN(len(functions))], `{"a":1}`).end.(type) {
					case domain.ExecutionCompleted:
						if string(end.Output) != `{"a":1}` {
							t.Errorf("a call returned %s", end.Output)
						}
					case domain.ExecutionFailed:
						killed.Add(1)
						if end.ErrorType != domain.ErrorExited || !strings.Contains(end.Error, "signal 9") {
							t.Errorf("a call ended as %+v", end)
						}
					}
				}
			})
		}
		all.Wait()
		stop()
		killer.Wait()
	})
	t.Logf("%d of %d calls lost their process", killed.Load(), callers*calls)
	require.Positive(t, killed.Load())
	require.Less(t, killed.Load(), int64(callers*calls/2))
}

// killAtRandom kills processes, whatever they are doing.
func killAtRandom(ctx context.Context, pool *Pool) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
		pool.mu.Lock()
		for w := range pool.workers { // in no order
			if w.launched {
				w.instance.Kill()
				break
			}
		}
		pool.mu.Unlock()
	}
}

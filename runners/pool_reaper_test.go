package runners

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func TestAStemTakesTheFirstCall(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(c *PoolConfig) { c.Stems = 4 })
	awaitStems(t, pool)
	require.Equal(t, PoolStats{Stems: 2}, withoutMemory(pool.Stats()))
	var stem *worker
	for w := range pool.workers {
		if w.shape.interpreter.Python {
			stem = w
		}
	}
	f := anew(counters["python"])
	require.Equal(t, "1", runOn(t.Context(), pool, f, `{}`).output(t))
	key, err := pool.keyOf(f)
	require.NoError(t, err)
	require.Equal(t, key, stem.key)
	awaitStems(t, pool)
	require.Equal(t, PoolStats{Stems: 2, Warm: 1, ColdStarts: 1}, withoutMemory(pool.Stats()), "there is another one in its place")
}

func TestWhoFindsNoStemLeavesOneForTheNext(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(c *PoolConfig) { c.Stems = 3 })
	f := anew(counters["node"])
	f.MemoryMB *= 2
	awaitStems(t, pool)
	require.Equal(t, "1", runOn(t.Context(), pool, f, `{}`).output(t))
	awaitStems(t, pool)
	require.Equal(t, 3, pool.Stats().Stems)
	require.Equal(t, "1", runOn(t.Context(), pool, anew(f), `{}`).output(t))
	f.MemoryMB *= 2
	require.Equal(t, "1", runOn(t.Context(), pool, anew(f), `{}`).output(t))
	awaitStems(t, pool)
	require.Equal(t, 3, pool.Stats().Stems, "there are never more than that")
}

func TestIdleProcessesMakeRoomForOthers(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(c *PoolConfig) { c.MaxProcesses = 3 })
	functions := make([]domain.Function, 5)
	for i := range functions {
		functions[i] = anew(counters["python"])
		require.Equal(t, "1", runOn(t.Context(), pool, functions[i], `{}`).output(t))
	}
	require.Equal(t, "2", runOn(t.Context(), pool, functions[4], `{}`).output(t))
	require.Equal(t, "1", runOn(t.Context(), pool, functions[0], `{}`).output(t), "the one that was used longest ago is gone")
	stats := pool.Stats()
	require.LessOrEqual(t, stats.Warm, 3)
	require.EqualValues(t, 3, stats.Reaped)
}

func TestWhoFindsNoRoomWaitsForIt(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(c *PoolConfig) { c.MaxProcesses = 2 })
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			f := anew(counters["python"])
			if output := runOn(context.Background(), pool, f, `{}`).end; output.(domain.ExecutionCompleted).Output == nil {
				t.Error(output)
			}
		})
	}
	calls.Wait()

	hold := function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(60)")
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{}, 2)
	for range 2 {
		calls.Go(func() {
			pool.Run(ctx, Invocation{ExecutionID: uuid.New(), Function: hold, Input: json.RawMessage(`{}`)}, func(domain.ExecutionLogLine) { begun <- struct{}{} })
		})
		<-begun
	}
	soon, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	require.Equal(t, domain.ErrorWorkerStopped, runOn(soon, pool, counters["python"], `{}`).failure(t).ErrorType)
	cancel()
	calls.Wait()
}

func TestIdleProcessesStayBelowTheMemoryBudget(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(c *PoolConfig) { c.MemoryBudgetMB = 100 })
	f := function("python", "kept = bytearray(b'x') * (30 << 20)\ndef handler(event):\n    return len(kept)")
	for range 5 {
		runOn(t.Context(), pool, anew(f), `{}`).output(t)
	}
	stats := pool.Stats()
	require.Positive(t, stats.Warm)
	require.Less(t, stats.Warm, 4)
	require.LessOrEqual(t, stats.MemoryMB, 100)
}

func TestAProcessThatNobodyNeedsEnds(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(c *PoolConfig) { c.IdleTimeout = 150 * time.Millisecond })
	f := anew(counters["node"])
	require.Equal(t, "1", runOn(t.Context(), pool, f, `{}`).output(t))
	require.Equal(t, "2", runOn(t.Context(), pool, f, `{}`).output(t))
	require.Eventually(t, func() bool { return pool.Stats() == PoolStats{ColdStarts: 1, Reaped: 1} }, 5*time.Second, 10*time.Millisecond)
	require.Equal(t, "1", runOn(t.Context(), pool, f, `{}`).output(t))
}

func TestAnIdleProcessIsPausedAndGoesOn(t *testing.T) {
	t.Parallel()
	if !runner.freezes {
		t.Skip("this host cannot pause processes")
	}
	f := function("python", "import threading, time\nbeats = 0\ndef beat():\n    global beats\n    while True:\n        beats += 1\n        time.sleep(0.005)\n"+
		"threading.Thread(target=beat, daemon=True).start()\ndef handler(event):\n    return beats")
	beats := func() int {
		n, err := strconv.Atoi(run(t, f, `{}`).output(t))
		require.NoError(t, err)
		return n
	}
	before := beats()
	time.Sleep(freezeAfter + time.Second)
	require.Less(t, beats()-before, 300, "in two seconds there would be 400")
}

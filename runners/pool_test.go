package runners

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// Each counts the calls that its process has had.
var counters = map[string]domain.Function{
	"node":   function("nodejs", "let n = 0; exports.handler = () => ++n"),
	"python": function("python", "n = 0\ndef handler(event):\n    global n\n    n += 1\n    return n"),
}

// anew is a copy that nobody has run yet.
func anew(f domain.Function) domain.Function {
	f.ID, f.AccountID = uuid.New(), uuid.New()
	return f
}

// onReusing runs a test with each pool that reuses its processes.
func onReusing(t *testing.T, test func(t *testing.T, pool *Pool)) {
	for name, pool := range map[string]*Pool{"bwrap": runner, "process": reused} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, pool)
		})
	}
}

// poolOf opens a pool of its own in plain processes that are reused.
func poolOf(t *testing.T, change func(*PoolConfig)) *Pool {
	t.Helper()
	config := reused.config
	config.Stems = -1
	change(&config)
	pool, err := newPool(config, true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}

func TestWhatAModuleHoldsSurvivesBetweenCallsOfOneVersion(t *testing.T) {
	t.Parallel()
	onReusing(t, func(t *testing.T, pool *Pool) {
		for language, f := range counters {
			f := anew(f)
			for n := 1; n <= 5; n++ {
				r := runOn(t.Context(), pool, f, `{}`)
				require.Equal(t, fmt.Sprint(n), r.output(t), language)
				require.Equal(t, n == 1, r.end.(domain.ExecutionCompleted).ColdStart)
			}
		}
	})
}

func TestNoProcessServesAnotherAccountFunctionOrVersion(t *testing.T) {
	t.Parallel()
	onReusing(t, func(t *testing.T, pool *Pool) {
		for language, f := range counters {
			f := anew(f)
			require.Equal(t, "1", runOn(t.Context(), pool, f, `{}`).output(t))
			for name, other := range map[string]domain.Function{
				"account":  {ID: f.ID, AccountID: uuid.New(), Version: f.Version, MemoryMB: f.MemoryMB},
				"function": {ID: uuid.New(), AccountID: f.AccountID, Version: f.Version, MemoryMB: f.MemoryMB},
				"version":  {ID: f.ID, AccountID: f.AccountID, Version: f.Version + 1, MemoryMB: f.MemoryMB},
				"memory":   {ID: f.ID, AccountID: f.AccountID, Version: f.Version, MemoryMB: f.MemoryMB * 2},
			} {
				other.Name, other.Runtime, other.Code, other.EntryPoint, other.TimeoutSec = f.Name, f.Runtime, f.Code, f.EntryPoint, f.TimeoutSec
				require.Equal(t, "1", runOn(t.Context(), pool, other, `{}`).output(t), "%s: another %s", language, name)
			}
			require.Equal(t, "2", runOn(t.Context(), pool, f, `{}`).output(t))
		}
	})
}

func TestTheProcessThatWasUsedLastIsUsedFirst(t *testing.T) {
	t.Parallel()
	f := function("python", "import os, time\ndef handler(event):\n    time.sleep(event)\n    return os.getpid()")
	pool := poolOf(t, func(*PoolConfig) {})
	var first, second string
	var both sync.WaitGroup
	both.Go(func() { first = runOn(t.Context(), pool, f, `0.3`).output(t) })
	both.Go(func() { second = runOn(t.Context(), pool, f, `0.7`).output(t) })
	both.Wait()
	require.NotEqual(t, first, second)
	for range 3 {
		require.Equal(t, second, runOn(t.Context(), pool, f, `0`).output(t))
	}
	require.Equal(t, PoolStats{Warm: 2, ColdStarts: 2}, withoutMemory(pool.Stats()))
}

func withoutMemory(s PoolStats) PoolStats {
	s.MemoryMB = 0
	return s
}

func TestAProcessServesLargeAndSmallCallsInTurn(t *testing.T) {
	t.Parallel()
	onReusing(t, func(t *testing.T, pool *Pool) {
		for _, f := range []domain.Function{
			function("nodejs", "let n = 0; exports.handler = (e) => { n++; console.log('y'.repeat(e.length)); return e + n }"),
			function("python", "n = 0\ndef handler(e):\n    global n\n    n += 1\n    print('y' * len(e))\n    return e + str(n)"),
		} {
			for n := 1; n <= 6; n++ {
				size := []int{3, domain.MaxOutputBytes - 3, maxTogether}[n%3]
				input, err := json.Marshal(repeat('x', size))
				require.NoError(t, err)
				r := runOn(t.Context(), pool, f, string(input))
				require.Equal(t, string(input[:len(input)-1])+strconv.Itoa(n)+`"`, r.output(t))
				require.Equal(t, size > MaxLogBytes, len(r.text(domain.System)) == 1)
			}
		}
	})
}

func repeat(c byte, n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = c
	}
	return string(text)
}

func TestAFunctionsProcessesEndWhenItChanges(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(*PoolConfig) {})
	changed, sibling, stranger := anew(counters["python"]), anew(counters["python"]), anew(counters["python"])
	sibling.AccountID = changed.AccountID
	for _, f := range []domain.Function{changed, sibling, stranger} {
		runOn(t.Context(), pool, f, `{}`)
	}
	pool.Retire(changed.ID)
	require.Equal(t, 2, pool.Stats().Warm)
	require.Equal(t, "1", runOn(t.Context(), pool, changed, `{}`).output(t))
	pool.RetireAccount(changed.AccountID)
	require.Equal(t, 1, pool.Stats().Warm)
	require.Equal(t, "2", runOn(t.Context(), pool, stranger, `{}`).output(t))
}

func TestAProcessThatRunsWhenItsFunctionChangesEndsAfterwards(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(*PoolConfig) {})
	f := function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(0.2)\n    return 'done'")
	end := pool.Run(t.Context(), Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(`{}`)}, func(domain.ExecutionLogLine) { pool.Retire(f.ID) })
	require.IsType(t, domain.ExecutionCompleted{}, end)
	require.Zero(t, pool.Stats().Warm)
}

// unused lists the workers that are not busy.
func (p *Pool) unused() []*worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	var idle []*worker
	for w := range maps.Keys(p.workers) {
		if w.state == workerIdle || w.state == workerStem {
			idle = append(idle, w)
		}
	}
	return idle
}

func TestWhoseIdleProcessIsKilledGetsAnother(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(c *PoolConfig) { c.Stems = 2 })
	for range 20 {
		for _, f := range counters {
			awaitStems(t, pool)
			for _, w := range pool.unused() {
				w.instance.Kill()
			}
			require.Equal(t, "1", runOn(t.Context(), pool, f, `{}`).output(t))
		}
	}
}

func TestWhatRunsWhenThePoolClosesEndsAsStopped(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, func(*PoolConfig) {})
	f := function("python", "import time\ndef handler(event):\n    print('begun')\n    time.sleep(60)")
	closed := make(chan error, 1)
	end := pool.Run(t.Context(), Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(`{}`)},
		func(domain.ExecutionLogLine) { go func() { closed <- pool.Close() }() })
	require.Equal(t, domain.ErrorWorkerStopped, end.(domain.ExecutionFailed).ErrorType)
	require.NoError(t, <-closed)
	require.NoDirExists(t, pool.launcher.workspaces.root)
	require.Equal(t, domain.ErrorWorkerStopped, runOn(t.Context(), pool, f, `{}`).failure(t).ErrorType)
}

func TestTheCodeIsForItsProcessAlone(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run functions as somebody else")
	}
	pool := poolOf(t, func(*PoolConfig) {})
	f := function("python", "def handler(event):\n    return __file__")
	var file string
	require.NoError(t, json.Unmarshal([]byte(runOn(t.Context(), pool, f, `{}`).output(t)), &file))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o440), info.Mode())
	pool.Retire(f.ID)
	require.Eventually(t, func() bool { _, err := os.Stat(file); return os.IsNotExist(err) }, 5*time.Second, 10*time.Millisecond)
}

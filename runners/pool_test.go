package runners

import (
	"context"
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

// What a handler leaves behind would print, fail or count up in the call after its own.
func TestWhatACallLeavesBehindDoesNotReachTheNext(t *testing.T) {
	t.Parallel()
	node := func(first string) domain.Function {
		return function("nodejs", "let calls = 0; exports.handler = async (e) => {\n  if (e.first) { "+first+"; return 'first' }\n"+
			"  await new Promise((done) => setTimeout(done, 60)); return 'second' }")
	}
	python := func(first string) domain.Function {
		return function("python", "import os, subprocess, threading, time, signal, asyncio\ndef late():\n    time.sleep(0.03)\n    print('stray')\n"+
			"def handler(event):\n    if event['first']:\n        "+first+"\n        return 'first'\n    time.sleep(0.06)\n    return 'second'")
	}
	for name, f := range map[string]domain.Function{
		"node timer":          node("setTimeout(() => console.log('stray'), 20)"),
		"node throwing timer": node("setTimeout(() => { throw new Error('stray') }, 20)"),
		"node interval":       node("setInterval(() => console.log('stray'), 5)"),
		"node silent timer":   node("setInterval(() => console.log('stray'), 5).unref()"),
		"node immediates":     node("const again = () => { console.error('x'); setImmediate(again) }; setTimeout(again, 1)"),
		"node late rejection": node("new Promise((_, no) => setTimeout(no, 20, new Error('stray')))"),
		"node file":           node("require('fs').readFile('/proc/self/status', () => console.log('stray'))"),
		"node child":          node("require('child_process').spawn('sh', ['-c', 'sleep 0.03; echo stray'], {stdio: 'inherit'})"),
		"node detached child": node("require('child_process').spawn('sh', ['-c', 'sleep 0.03; echo stray'], {stdio: 'inherit', detached: true}).unref()"),
		"node worker":         node("new (require('worker_threads').Worker)('setInterval(() => console.log(\"stray\"), 5)', {eval: true})"),
		"python thread":       python("threading.Thread(target=late).start()"),
		"python daemon":       python("threading.Thread(target=late, daemon=True).start()"),
		"python timer":        python("threading.Timer(0.03, late).start()"),
		"python alarm":        python("signal.signal(signal.SIGALRM, lambda *_: print('stray')); signal.setitimer(signal.ITIMER_REAL, 0.03)"),
		"python child":        python("subprocess.Popen(['sh', '-c', 'sleep 0.03; echo stray'])"),
		"python fork":         python("os.fork() or (late(), os._exit(0))"),
		"python orphan":       python("subprocess.run(['sh', '-c', '(sleep 0.03; echo stray) &'])"),
		"python task":         python("asyncio.run(asyncio.sleep(0)); loop = asyncio.new_event_loop(); loop.call_later(0.01, print, 'stray')"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onReusing(t, func(t *testing.T, pool *Pool) {
				if pool == reused && name == "python orphan" {
					t.Skip("plain processes cannot be found when they have left their parents: that is why they serve one run")
				}
				f := anew(f)
				for range 3 {
					require.Equal(t, `"first"`, runOn(t.Context(), pool, f, `{"first":true}`).output(t))
					second := runOn(t.Context(), pool, f, `{"first":false}`)
					require.Equal(t, `"second"`, second.output(t))
					require.Empty(t, second.lines)
				}
			})
		})
	}
}

func TestALateRejectionFailsItsOwnCall(t *testing.T) {
	t.Parallel()
	f := function("nodejs", "exports.handler = async (e) => { if (e.first) Promise.reject(new RangeError('mine')); return 1 }")
	failure := run(t, f, `{"first":true}`).failure(t)
	require.Equal(t, "RangeError", failure.ErrorType)
	require.Equal(t, "1", run(t, f, `{}`).output(t))
}

// Connections are why somebody wants a process to be reused.
func TestAConnectionMayStayOpen(t *testing.T) {
	t.Parallel()
	onReusing(t, func(t *testing.T, pool *Pool) {
		f := function("nodejs", `const http = require('http'); let server, n = 0; const agent = new http.Agent({keepAlive: true});
			exports.handler = async () => {
				server ??= await new Promise((up) => { const s = http.createServer((q, r) => r.end('ok')).listen(0, () => up(s)) });
				await new Promise((done, no) => http.get({port: server.address().port, agent}, (r) => r.resume().on('end', done)).on('error', no));
				await (await fetch('http://localhost:' + server.address().port)).text();
				return ++n }`)
		for n := 1; n <= 3; n++ {
			require.Equal(t, fmt.Sprint(n), runOn(t.Context(), pool, f, `{}`).output(t))
		}
	})
}

// Each breaks the channel in its first call. Whatever that ends as, the next one must work.
func TestWhatBreaksTheChannelHarmsNoOtherCall(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]domain.Function{
		"node closes 3":        function("nodejs", "exports.handler = (e) => { if (e.first) require('fs').closeSync(3); return 1 }"),
		"node closes 4":        function("nodejs", "exports.handler = (e) => { if (e.first) require('fs').closeSync(4); return 1 }"),
		"node closes 4, waits": function("nodejs", "exports.handler = (e) => { if (e.first) { require('fs').closeSync(4); for (;;); } return 1 }"),
		"node reads 3":         function("nodejs", "exports.handler = (e) => { if (e.first) require('fs').read(3, () => {}); return 1 }"),
		"node garbage":         function("nodejs", "exports.handler = (e) => { if (e.first) require('fs').writeSync(4, Buffer.alloc(100)); return 1 }"),
		"node exits":           function("nodejs", "exports.handler = (e) => { if (e.first) process.exit(0); return 1 }"),
		"node exits later":     function("nodejs", "exports.handler = (e) => { if (e.first) setTimeout(() => process.exit(3), 1); return 1 }"),
		"python closes 3":      function("python", "import os\ndef handler(e):\n    if e['first']: os.close(3)\n    return 1"),
		"python closes 4":      function("python", "import os\ndef handler(e):\n    if e['first']: os.close(4)\n    return 1"),
		"python garbage":       function("python", "import os\ndef handler(e):\n    if e['first']: os.write(4, b'x')\n    return 1"),
		"python forges":        function("python", "import os\ndef handler(e):\n    if e['first']: os.write(4, b'\\0\\0\\0\\x13O' + b'x' * 16 + b'+1')\n    return 1"),
		"python stops":         function("python", "import os, signal\ndef handler(e):\n    if e['first']: os.kill(os.getpid(), signal.SIGSTOP)\n    return 1"),
		"python exits":         function("python", "import os\ndef handler(e):\n    if e['first']: os._exit(0)\n    return 1"),
		"python garbage later": function("python", "import os, threading, time\ndef spoil():\n    time.sleep(0.02)\n    os.write(4, b'x' * 50)\n"+
			"def handler(e):\n    if e['first']: threading.Thread(target=spoil).start()\n    return 1"),
		"python leaks 4": function("python", "import os, subprocess\ndef handler(e):\n    if e['first']:\n"+
			"        subprocess.Popen(['sh', '-c', 'while :; do echo x >&4; done'], pass_fds=[4], stderr=-3)\n    return 1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onReusing(t, func(t *testing.T, pool *Pool) {
				f := anew(f)
				f.TimeoutSec = 2
				began := time.Now()
				for range 2 {
					runOn(t.Context(), pool, f, `{"first":true}`)
					second := runOn(t.Context(), pool, f, `{"first":false}`)
					require.Equal(t, "1", second.output(t))
					require.Empty(t, second.lines)
				}
				require.Less(t, time.Since(began), 15*time.Second)
			})
		})
	}
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
	require.Less(t, beats()-before, 120, "in a second there would be 200")
}

// pids finds the process of each worker that is not busy.
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

package runners

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

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

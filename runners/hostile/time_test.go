package hostile

import "github.com/voltrun/voltrun/domain"

// times are handlers that do not end, and do not let themselves be interrupted.
var times = append(oneOf(attack{runtime: "python", fails: domain.ErrorTimeout, timeout: 3, code: `
import re, traceback
def attack(e):
    BODY
`}, "BODY", map[string]string{
	"with signals blocked": `signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    while True:
        time.sleep(1)`,
	"in a loop that catches everything": `while True:
        try:
            while True:
                pass
        except BaseException:
            pass`,
	"in native code":        `re.match("(a+)+$", "a" * 60 + "b")`,
	"in a long computation": `10 ** (10 ** 8) % 7`,
	"in a wait for a child": `subprocess.run(["sh", "-c", 'trap "" TERM INT; exec sleep "$0"', e["mark"]])`,
	"in a deadlock":         `[lock := threading.Lock(), lock.acquire(), lock.acquire()]`,
}), oneOf(attack{runtime: "nodejs", fails: domain.ErrorTimeout, timeout: 3, code: `
async function attack(e) {
  BODY
}`}, "BODY", map[string]string{
	"in native code":        `/^(a+)+$/.test('a'.repeat(60) + 'b');`,
	"in a native wait":      `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);`,
	"in microtasks":         `for (;;) await null;`,
	"in ticks":              `const again = () => process.nextTick(again); again();  await new Promise(() => {});`,
	"with signals caught":   `process.on('SIGTERM', () => {}); for (;;);`,
	"in a wait for a child": `execFileSync('sleep', [e.mark]);`,
})...)

package hostile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners"
)

// cutLog is a log of which no more than its bound was kept, and which says so.
func cutLog(t *testing.T, lines []domain.ExecutionLogLine) {
	bytes := 0
	for _, l := range lines {
		bytes += len(l.Text)
	}
	require.Greater(t, bytes, runners.MaxLogBytes/2)
	require.Less(t, bytes, runners.MaxLogBytes+4<<10)
	require.Contains(t, strings.ToLower(lines[len(lines)-1].Text), "log")
}

// wholeLog is a log of which nothing is missing.
func wholeLog(t *testing.T, lines []domain.ExecutionLogLine) {
	require.Len(t, lines, 5000)
	require.Equal(t, fmt.Sprintf("%0100d", 4999), lines[4999].Text)
}

var floods = []attack{
	{name: "past the interpreter, right before the end", runtime: "python", want: done, log: wholeLog, code: `
def attack(e):
    import fcntl
    fcntl.fcntl(1, 1031, 1 << 20)  # so that all of it waits to be read when the answer comes
    os.write(1, b"".join(b"%0100d\n" % n for n in range(5000)))
    return "done"`},
	{name: "of a child, right before the end", runtime: "nodejs", want: done, log: wholeLog, code: `
const attack = () => { execFileSync('sh', ['-c', 'seq -f %0100.f 0 4999'], { stdio: 'inherit' }); return 'done' };`},
	{name: "of lines", runtime: "python", want: done, log: cutLog, code: `
def attack(e):
    for n in range(40_000):
        print("a line of a log that nobody reads", n)
    return "done"`},
	{name: "of lines", runtime: "nodejs", want: done, log: cutLog, code: `
function attack() {
  for (let n = 0; n < 40_000; n++) console.log('a line of a log that nobody reads', n);
  return 'done';
}`},
	{name: "of one line", runtime: "python", want: done, log: cutLog, code: `
def attack(e):
    sys.stderr.write("x" * (20 << 20))
    return "done"`},
	{name: "of one line", runtime: "nodejs", want: done, log: cutLog, code: `
const attack = () => { process.stdout.write('x'.repeat(20 << 20)); return 'done' };`},
	{name: "past the interpreter", runtime: "nodejs", want: done, log: cutLog, code: `
const attack = () => { require('child_process').execSync('head -c 20000000 /dev/zero >&2', { stdio: 'inherit' }); return 'done' };`},
	{name: "past the interpreter", runtime: "python", want: done, log: cutLog, code: `
def attack(e):
    for _ in range(2000):
        os.write(1, b"x\xff" * 500 + b"\n")
    return "done"`},
	{name: "of empty lines", runtime: "python", want: done, code: `
def attack(e):
    sys.stdout.write("\n" * 3_000_000)
    return "done"`},
	{name: "that never ends", runtime: "nodejs", fails: domain.ErrorTimeout, timeout: 4, log: cutLog, code: `
function attack() {
  for (;;) console.error('x'.repeat(1000));
}`},
	{name: "of output", runtime: "python", fails: domain.ErrorOutputTooLarge, code: `
def attack(e):
    return "x" * (20 << 20)`},
	{name: "of output", runtime: "nodejs", fails: domain.ErrorOutputTooLarge, code: `
const attack = () => 'x'.repeat(20 << 20);`},
	{name: "of output that escapes make", runtime: "nodejs", fails: domain.ErrorOutputTooLarge, code: `
const attack = () => '\u0001'.repeat(1100 << 10);`},
	{name: "of an error", runtime: "python", fails: "ValueError", code: `
def attack(e):
    raise ValueError("x" * (10 << 20))`},
	{name: "of an error", runtime: "nodejs", fails: "Error", code: `
const attack = () => { const error = new Error('x'.repeat(10 << 20)); error.stack = 'y'.repeat(10 << 20); throw error };`},
	{name: "of an error's name", runtime: "python", fails: strings.Repeat("x", 200) + "…", code: `
def attack(e):
    raise type("x" * (1 << 20), (Exception,), {})()`},
}

package hostile

import "github.com/voltrun/voltrun/domain"

const noQuota = "Landlock has no bound for what is written to a folder"

var bombs = []attack{
	{name: "of forks", runtime: "python", want: bounded, code: `
def attack(e):
    return until_full(lambda: os.fork() or linger(e), 1000)`},
	{name: "of forks that fork", runtime: "python", fails: domain.ErrorTimeout, timeout: 2, code: `
def attack(e):
    subprocess.Popen(["sh", "-c", 'bomb() { sleep "$0" & (bomb) & bomb; }; bomb 2>/dev/null', e["mark"]], stderr=subprocess.DEVNULL)
    time.sleep(60)`},
	{name: "of children", runtime: "nodejs", want: bounded, code: `
async function attack(e) {
  for (let n = 0; n < 1000; n++) {
    const failed = await new Promise((resolve) => spawn('sleep', [e.mark], { detached: true, stdio: 'ignore' }).on('error', resolve).on('spawn', resolve));
    if (failed) return failed.code === 'EAGAIN' ? 'bounded' : failed.code;
  }
}`},
	{name: "of threads", runtime: "python", want: bounded, code: `
def attack(e):
    end = threading.Event()
    try:
        for _ in range(1000):
            threading.Thread(target=end.wait).start()
    except RuntimeError:
        return "bounded"
    finally:
        end.set()`},
	{name: "of the heap", runtime: "nodejs", fails: domain.ErrorOutOfMemory, code: `
function attack() {
  const kept = [];
  for (;;) kept.push(new Array(1e4).fill(0).map((_, i) => ({ i })));
}`},
	{name: "of buffers", runtime: "nodejs", fails: domain.ErrorOutOfMemory, code: `
function attack() {
  const kept = [];
  for (;;) kept.push(Buffer.alloc(4 << 20, 1));
}`},
	{name: "of strings", runtime: "nodejs", fails: domain.ErrorOutOfMemory, code: `
function attack() {
  const kept = [];
  for (let n = 0; ; n++) kept.push(Buffer.alloc(1 << 20, n % 256).toString('latin1'));
}`},
	{name: "of bytes", runtime: "python", fails: domain.ErrorOutOfMemory, code: `
def attack(e):
    kept = []
    while True:
        kept.append(bytearray(b"x") * (1 << 20))`},
	{name: "of nameless files", runtime: "python", fails: domain.ErrorOutOfMemory, code: `
def attack(e):
    for n in range(20):
        file = os.memfd_create("x")
        for _ in range(32):
            os.write(file, b"x" * (1 << 20))`, notOn: map[string]string{"landlock": "memory is bounded for each process on its own, without what it has in files"}},
	{name: "of shared memory", runtime: "python", fails: domain.ErrorOutOfMemory, code: `
import mmap
def attack(e):
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 32 << 20))
        kept[-1].write(b"x" * (32 << 20))`, notOn: map[string]string{"landlock": "memory is bounded for each process on its own, without what it shares"}},
	{name: "of children that eat", runtime: "python", want: `true`, code: `
def attack(e):
    for _ in range(6):
        if os.fork() == 0:
            eaten = bytearray(b"x") * (64 << 20)
            time.sleep(5)
            os._exit(0)
    return signal.SIGKILL in [os.wait()[1] for _ in range(6)]`, notOn: map[string]string{"landlock": "memory is bounded for each process on its own"}},
	{name: "of bytes in the temporary folder", runtime: "python", want: bounded, notOn: map[string]string{"landlock": noQuota}, code: `
def attack(e):
    files = iter(range(1000))
    return until_full(lambda: write(f"{os.environ['TMPDIR']}/{next(files)}", b"x" * (1 << 20)), 100)`},
	{name: "of bytes in the temporary folder", runtime: "nodejs", want: bounded, notOn: map[string]string{"landlock": noQuota}, code: `
function attack() {
  try {
    for (let n = 0; n < 100; n++) fs.appendFileSync('/tmp/one', Buffer.alloc(1 << 20));
  } catch (error) {
    return error.code === 'ENOSPC' ? 'bounded' : error.code;
  }
}`},
	{name: "of bytes in shared memory", runtime: "python", want: bounded, notOn: map[string]string{"landlock": "there is no such folder"}, code: `
def attack(e):
    files = iter(range(1000))
    return until_full(lambda: write(f"/dev/shm/{next(files)}", b"x" * (1 << 20)), 100)`},
	{name: "of a sparse file", runtime: "python", want: bounded, code: `
def attack(e):
    return until_full(lambda: os.truncate(os.open("sparse", os.O_CREAT | os.O_RDWR), 1 << 40), 1)`},
	{name: "of empty files", runtime: "python", fails: domain.ErrorOutOfMemory, notOn: map[string]string{"landlock": noQuota, "native": "it bounds their number"}, code: `
def attack(e):
    names = iter(range(10_000_000))
    return until_full(lambda: os.close(os.open(f"/tmp/{next(names)}", os.O_CREAT | os.O_WRONLY)), 1_000_000)`},
	{name: "of empty files that are counted", runtime: "python", want: bounded, notOn: map[string]string{"landlock": noQuota, "bwrap": "bubblewrap cannot bound their number, so they count as memory"}, code: `
def attack(e):
    names = iter(range(10_000_000))
    return until_full(lambda: os.close(os.open(f"/tmp/{next(names)}", os.O_CREAT | os.O_WRONLY)), 1_000_000)`},
	{name: "of descriptors that are kept", runtime: "python", want: bounded, setup: "kept = []", code: `
def attack(e):
    got = until_full(lambda: kept.append(os.open("/dev/null", os.O_RDONLY)), 100_000)
    return got`},
	{name: "of pipes", runtime: "python", want: bounded, setup: "kept = []", code: `
def fill():
    ends = os.pipe()
    kept.extend(ends)
    os.set_blocking(ends[1], False)
    try:
        os.write(ends[1], b"x" * (1 << 20))
    except BlockingIOError:
        pass
def attack(e):
    return until_full(fill, 100_000)`},
	{name: "of timers", runtime: "nodejs", fails: domain.ErrorOutOfMemory, code: `
function attack() {
  for (;;) setTimeout(() => {}, 1e6);
}`},
	{name: "of promises", runtime: "nodejs", fails: domain.ErrorOutOfMemory, code: `
async function attack() {
  const kept = [];
  for (;;) kept.push(new Promise(() => {}));
}`},
}

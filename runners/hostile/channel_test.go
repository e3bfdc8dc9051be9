package hostile

import "github.com/voltrun/voltrun/domain"

// Frames as they are written to descriptor 4; the token is the invocation's, or a guess.
const forge = `
def frame(kind, payload, token=b"x" * 16):
    return (17 + len(payload)).to_bytes(4, "big") + kind + token + payload
`

// noticed is where it is noticed that a function has closed its answers before its time is over.
var noticed = map[string]string{"native": "the first process of the namespace, a shell, has the answers open as well"}

var channel = []attack{
	{name: "forges an answer", runtime: "python", fails: domain.ErrorOutputInvalid, code: forge + `
def attack(e):
    os.write(4, frame(b"O", b'+"forged"'))`},
	{name: "forges an answer", runtime: "nodejs", fails: domain.ErrorOutputInvalid, code: `
function attack() {
  const answer = Buffer.from('\0\0\0\x1aOxxxxxxxxxxxxxxxx+"forged"', 'latin1');
  fs.writeSync(4, answer);
  return 'true';
}`},
	{name: "forges a log line", runtime: "python", fails: domain.ErrorOutputInvalid, code: forge + `
def attack(e):
    os.write(4, frame(b"1", b"forged"))`},
	{name: "forges a beginning", runtime: "python", fails: domain.ErrorOutputInvalid, code: forge + `
def attack(e):
    os.write(4, frame(b"r", b"", bytes(16)))`},
	{name: "forges an endless frame", runtime: "python", fails: domain.ErrorOutputInvalid, code: `
def attack(e):
    os.write(4, b"\xff" * 64)`},
	{name: "knows its token and forges an endless frame", runtime: "python", fails: domain.ErrorOutputTooLarge, code: `
def attack(e):
    token = sys.modules["__main__"].token
    os.write(4, b"\xff\xff\xff\xffO" + token + b"x" * 64)`},
	{name: "knows its token and forges an unknown kind", runtime: "python", fails: domain.ErrorOutputInvalid, code: forge + `
def attack(e):
    os.write(4, frame(b"?", b"x", sys.modules["__main__"].token))`},
	{name: "knows its token and answers twice", runtime: "python", want: `"mine"`, code: forge + `
def attack(e):
    os.write(4, frame(b"O", b'+"mine"', sys.modules["__main__"].token) + frame(b"O", b'+"again"', sys.modules["__main__"].token))
    time.sleep(30)`},
	{name: "knows its token and answers before it is done", runtime: "python", want: `"mine"`, harmsItself: domain.ErrorOutputInvalid, code: forge + `
def attack(e):
    os.write(4, frame(b"O", b'+"mine"', sys.modules["__main__"].token))
    time.sleep(2)
    return "again"`},
	{name: "knows its token and says too little", runtime: "python", fails: domain.ErrorTimeout, timeout: 1, code: `
def attack(e):
    os.write(4, b"\0\0\1\0O" + sys.modules["__main__"].token)
    time.sleep(30)`},
	{name: "knows its token and keeps it for later", runtime: "python", want: done, code: forge + `
def attack(e):
    token = sys.modules["__main__"].token
    if os.fork() == 0:
        time.sleep(0.02)
        os.write(4, frame(b"O", b'+"old"', token))
        linger(e)
    return "done"`},
	{name: "writes garbage", runtime: "nodejs", fails: domain.ErrorOutputInvalid, code: `
function attack() {
  fs.writeSync(4, Buffer.alloc(100, 0xab));
  return 1;
}`},
	{name: "writes too little", runtime: "nodejs", fails: domain.ErrorOutputInvalid, code: `
function attack() {
  fs.writeSync(4, Buffer.from([0]));
  return 1;
}`},
	{name: "writes for ever", runtime: "python", fails: domain.ErrorOutputInvalid, code: `
def attack(e):
    while True:
        os.write(4, b"x" * 65536)`},
	{name: "closes the answers", runtime: "nodejs", notOn: noticed, fails: domain.ErrorOutputInvalid, code: `
const attack = () => { fs.closeSync(4); for (;;); };`},
	{name: "closes the answers", runtime: "python", notOn: noticed, fails: domain.ErrorOutputInvalid, code: `
def attack(e):
    os.close(4)
    time.sleep(30)`},
	{name: "answers into nothing", runtime: "python", notOn: noticed, fails: domain.ErrorOutputInvalid, code: `
def attack(e):
    os.dup2(os.open("/dev/null", os.O_WRONLY), 4)`},
	{name: "closes the requests", runtime: "python", want: done, code: `
def attack(e):
    os.close(3)
    return "done"`},
	{name: "closes the requests", runtime: "nodejs", want: done, code: `
const attack = () => { fs.closeSync(3); return 'done' };`},
	{name: "closes everything", runtime: "python", notOn: noticed, fails: domain.ErrorOutputInvalid, code: `
def attack(e):
    os.closerange(0, 100)
    time.sleep(30)`},
	{name: "asks itself", runtime: "python", want: done, code: forge + `
def attack(e):
    ours, theirs = os.pipe()
    os.write(theirs, frame(b"c", b'{"execution_id":"x","deadline_ms":0}\n{"attack":false}'))
    os.dup2(ours, 3)
    return "done"`},
	{name: "reads the next request", runtime: "python", want: done, code: `
def attack(e):
    threading.Thread(target=os.read, args=(3, 1000), daemon=True).start()
    return "done"`},
	{name: "reads the next request", runtime: "nodejs", want: done, code: `
const attack = () => { fs.read(3, () => {}); return 'done' };`},
	{name: "lets a child read the next request", runtime: "python", want: done, code: `
def attack(e):
    subprocess.Popen(["sh", "-c", 'read -r x <&3; exec sleep "$0"', e["mark"]], pass_fds=[3])
    return "done"`},
	{name: "makes the channel not block", runtime: "python", want: done, code: `
def attack(e):
    for fd in range(5):
        os.set_blocking(fd, False)
    return "done"`},
	{name: "makes the channel not block, with a long answer", runtime: "python", want: `5000000`, code: `
def attack(e):
    os.set_blocking(4, False)
    sys.stdout.write("")
    return len(json.dumps("x" * 4_999_998))`},
	{name: "makes the channel small", runtime: "python", want: done, code: `
import fcntl
def attack(e):
    for fd in (1, 2, 3, 4):
        fcntl.fcntl(fd, 1031, 4096)
    return "done"`},
	{name: "knows its token and locks the shim out", runtime: "python", fails: domain.ErrorTimeout, timeout: 1, code: `
def attack(e):
    shim = sys.modules["__main__"]
    threading.Thread(target=lambda: (shim.writing.acquire(), time.sleep(30)), daemon=True).start()
    time.sleep(0.1)
    return "done"`},
}

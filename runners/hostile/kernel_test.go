package hostile

const (
	// elf is a program of one page that asks for a user namespace through the gate of 32-bit programs. It exits with 0 when
	// it got one, and is ended by a signal when it did not: it cannot even say so.
	elf = `
import struct, platform
code = bytes.fromhex("b836010000" "bb00000010" "cd80" "85c0" "7509" "b801000000" "31db" "cd80" "f4")
def elf(wide):
    at = 0x400000
    if wide:
        head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, at + 120, 64, 0, 0, 64, 56, 1, 64, 0, 0)
        return head + struct.pack("<IIQQQQQQ", 1, 5, 0, at, at, 120 + len(code), 120 + len(code), 4096) + code
    head = b"\x7fELF\1\1\1" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, at + 84, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    return head + struct.pack("<IIIIIIII", 1, 0, at, at, 84 + len(code), 84 + len(code), 5, 4096) + code
def run(wide):
    path = f"{os.environ['TMPDIR']}/elf{wide}"
    write(path, elf(wide))
    os.chmod(path, 0o755)
    return subprocess.run([path]).returncode`

	// calls is for tables of system calls: each is made with arguments that would do no harm if it were allowed.
	calls = `
import platform, struct
def attack(e):
    here = ctypes.c_char_p(os.environ["TMPDIR"].encode())
    none = ctypes.c_char_p(b"")
    if platform.machine() != "x86_64":
        return "all refused"
    return tried(TABLE)
def netlink(kind, body):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.send(struct.pack("=IHHII", 16 + len(body), kind, 1 | 4 | 0x400, 1, 0) + body)
        answer = s.recv(4096)
        number = -struct.unpack("=i", answer[16:20])[0]
        if number:
            raise OSError(number, os.strerror(number))
        return answer
def interface(request):
    import fcntl
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return fcntl.ioctl(s, request, struct.pack("16s24x", b"lo"))
`
)

var kernel = append(oneOf(attack{runtime: "python", code: calls}, "TABLE", map[string]string{
	"mounts": `mount=lambda: syscall(165, ctypes.c_char_p(b"none"), here, ctypes.c_char_p(b"tmpfs"), 0, 0), umount=lambda: syscall(166, ctypes.c_char_p(b"/proc"), 2),
        pivot=lambda: syscall(155, here, here), chroot=lambda: syscall(161, here), tree=lambda: syscall(428, -100, here, 1), move=lambda: syscall(429, -100, here, -100, here, 0),
        fsopen=lambda: syscall(430, ctypes.c_char_p(b"tmpfs"), 0), fspick=lambda: syscall(433, -100, here, 0), attributes=lambda: syscall(442, -100, here, 0, ctypes.create_string_buffer(32), 32),
        handle=lambda: syscall(304, -100, ctypes.create_string_buffer(64), 0)`,
	"namespaces": `**{f"unshare {bit:x}": lambda bit=bit: syscall(272, bit) for bit in (0x10000000, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000, 0x80)},
        **{f"clone {bit:x}": lambda bit=bit: syscall(56, bit | 17, 0, 0, 0, 0) or os._exit(0) for bit in (0x10000000, 0x10020000, 0x30000000, 0x50000000, 0x2000000)},
        clone3=lambda: syscall(435, (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17, 0, 0, 0), 64) or os._exit(0),
        **{f"join {kind}": lambda kind=kind: syscall(308, os.open(f"/proc/self/ns/{kind}", os.O_RDONLY), 0) for kind in ("net", "mnt", "pid", "uts", "ipc")}`,
	"programs in the kernel": `bpf=lambda: syscall(321, 0, (ctypes.c_uint32 * 18)(2, 4, 4, 1), 72), perf=lambda: syscall(298, (ctypes.c_uint32 * 32)(1, 128), 0, -1, -1, 0),
        module=lambda: syscall(175, none, 0, none), file=lambda: syscall(313, 0, none, 0), unload=lambda: syscall(176, ctypes.c_char_p(b"x"), 0),
        kexec=lambda: syscall(246, 0, 0, 0, 0), kexec_file=lambda: syscall(320, -1, -1, 0, none, 0)`,
	"keys": `keyctl=lambda: syscall(250, 0, -3, 1), add=lambda: syscall(248, ctypes.c_char_p(b"user"), ctypes.c_char_p(b"x"), none, 0, -3),
        request=lambda: syscall(249, ctypes.c_char_p(b"user"), ctypes.c_char_p(b"x"), 0, -3)`,
	"rings and faults": `setup=lambda: syscall(425, 8, ctypes.create_string_buffer(120)), enter=lambda: syscall(426, 0, 1, 1, 0, 0, 0), register=lambda: syscall(427, 0, 0, 0, 0),
        userfault=lambda: syscall(323, 1), secret=lambda: syscall(447, 0)`,
	"the whole machine": `reboot=lambda: syscall(169, 0, 0, 0, 0), on=lambda: syscall(167, ctypes.c_char_p(b"/nothing"), 0), off=lambda: syscall(168, ctypes.c_char_p(b"/nothing")),
        clock=lambda: syscall(227, 0, (ctypes.c_long * 2)(-1, -1)), day=lambda: syscall(164, (ctypes.c_long * 2)(-1, -1), 0), tuned=lambda: syscall(159, (ctypes.c_long * 40)(1)),
        host=lambda: syscall(170, ctypes.c_char_p(b"x"), 1), domain=lambda: syscall(171, ctypes.c_char_p(b"x"), 1), accounting=lambda: syscall(163, ctypes.c_char_p(b"/nothing")),
        hangup=lambda: syscall(153), quota=lambda: syscall(179, 0, none, 0, 0), ports=lambda: syscall(173, 0, 8, 1), level=lambda: syscall(172, 3)`,
	"others": `personality=lambda: syscall(135, 0x0040000), ptrace=lambda: syscall(101, 0, 0, 0, 0), watch=lambda: syscall(300, 0, 0), pages=lambda: syscall(279, 1, 1, 0, 0, 0, 0),
        cookie=lambda: syscall(212, 0, 0, 0), library=lambda: syscall(134, none), nfs=lambda: syscall(180, 0, 0, 0), unknown=lambda: syscall(999), last=lambda: syscall(511)`,
	"another table's numbers": `first=lambda: syscall(0x40000000 | 39), user=lambda: syscall(0x40000000 | 272, 0x10000000), mount=lambda: syscall(0x40000000 | 165, none, here, none, 0, 0)`,
	"raw sockets": `raw=lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1), six=lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58), packets=lambda: socket.socket(17, socket.SOCK_RAW, 0),
        machine=lambda: socket.socket(40, socket.SOCK_STREAM), crypto=lambda: socket.socket(38, socket.SOCK_SEQPACKET), key=lambda: socket.socket(15, socket.SOCK_RAW, 2),
        express=lambda: socket.socket(44, socket.SOCK_RAW), bluetooth=lambda: socket.socket(31, socket.SOCK_RAW), smc=lambda: socket.socket(43, socket.SOCK_STREAM),
        call=lambda: socket.socket(33, socket.SOCK_DGRAM), can=lambda: socket.socket(29, socket.SOCK_RAW, 1)`,
	"settings of the network": `link=lambda: netlink(16, bytes(16)), route=lambda: netlink(25, bytes(12)), address=lambda: netlink(21, bytes(8)), name=lambda: interface(0x8923), down=lambda: interface(0x8914)`,
}),
	attack{name: "32-bit gate", runtime: "python", want: `true`, code: elf + `
def attack(e):
    return platform.machine() != "x86_64" or run(True) == -signal.SIGSEGV`},
	attack{name: "32-bit program", runtime: "python", want: `true`, code: elf + `
def attack(e):
    try:
        return platform.machine() != "x86_64" or run(False) == -signal.SIGSEGV
    except OSError as refusal:
        return refusal.errno == errno.ENOEXEC`},
	attack{name: "32-bit gate", runtime: "nodejs", want: `true`, code: `
function attack() {
  if (process.arch !== 'x64') return true;
  const code = Buffer.from('b836010000bb00000010cd8085c07509b80100000031dbcd80f4', 'hex');
  const head = Buffer.alloc(120);
  Buffer.from('7f454c460201010000000000000000000200' + '3e0001000000', 'hex').copy(head);
  head.writeBigUInt64LE(0x400078n, 24);
  head.writeBigUInt64LE(64n, 32);
  for (const [at, value] of [[52, 64], [54, 56], [56, 1], [58, 64]]) head.writeUInt16LE(value, at);
  head.writeUInt32LE(1, 64);
  head.writeUInt32LE(5, 68);
  for (const [at, value] of [[80, 0x400000n], [88, 0x400000n], [96, 147n], [104, 147n], [112, 4096n]]) head.writeBigUInt64LE(value, at);
  const path = process.env.TMPDIR + '/elf';
  fs.writeFileSync(path, Buffer.concat([head, code]), { mode: 0o755 });
  return require('child_process').spawnSync(path).signal === 'SIGSEGV';
}`},
	attack{name: "programs of the system", runtime: "nodejs", want: `[]`, code: `
function attack() {
  const tries = [['unshare', '-Ur', 'true'], ['unshare', '-m', 'true'], ['mount', '-t', 'proc', 'none', '/tmp'], ['chroot', '/', 'true'], ['nsenter', '-t', '1', '-m', 'true'],
    ['dmesg'], ['swapoff', '-a'], ['ip', 'link', 'add', 'x', 'type', 'dummy'], ['bwrap', '--unshare-user', '--bind', '/', '/', 'true'], ['insmod', '/nothing'], ['setpriv', '--reuid', '0', 'true']];
  return tries.filter(([program, ...rest]) => require('child_process').spawnSync(program, rest, { stdio: 'ignore' }).status === 0);
}`},
)

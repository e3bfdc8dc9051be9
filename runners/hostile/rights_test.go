package hostile

var rights = []attack{
	{name: "of root", runtime: "python", code: `
def attack(e):
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
    return tried(user=lambda: os.setuid(0), group=lambda: os.setgid(0), real=lambda: os.setresuid(0, 0, 0), groups=lambda: os.setgroups([0]),
        neighbour=lambda: os.setuid(os.getuid() + 1), capabilities=lambda: syscall(126, header, none), root=lambda: os.chroot("/tmp"),
        ambient=lambda: 1 / (libc.prctl(47, 2, 21, 0, 0) + 1) if False else syscall(157, 47, 2, 21, 0, 0) if capable() else os.setuid(0))
def capable():
    return any(int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith(("CapInh", "CapPrm")))`},
	{name: "as the kernel sees them", runtime: "python", want: `{"CapAmb":0,"CapBnd":0,"CapEff":0,"CapInh":0,"CapPrm":0,"NoNewPrivs":1,"Seccomp":2,"root":false}`, code: `
def attack(e):
    facts = {"root": os.getuid() * os.getgid() == 0 or 0 in os.getgroups()}
    for line in open("/proc/self/status"):
        name, value = line.split(":", 1)
        if name.startswith("Cap") or name in ("NoNewPrivs", "Seccomp"):
            facts[name] = int(value, 16)
    return dict(sorted(facts.items()))`},
	{name: "of programs that have root's", runtime: "python", want: `0`, code: `
def attack(e):
    gained = 0
    for program in (["su", "-c", "true"], ["mount", "-t", "tmpfs", "none", "/tmp"], ["chsh", "-s", "/bin/sh"], ["newgrp", "root"], ["umount", "/proc"]):
        try:
            gained += subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
        except (FileNotFoundError, PermissionError):
            pass
    return gained`},
	{name: "of a program made to have root's", runtime: "nodejs", want: `false`, code: `
function attack() {
  const shell = process.env.TMPDIR + '/shell';
  fs.copyFileSync('/bin/sh', shell);
  try { fs.chmodSync(shell, 0o6755) } catch {}
  return execFileSync(shell, ['-p', '-c', 'id -u']).toString().trim() === '0';
}`},
	{name: "of the kernel's settings", runtime: "python", code: `
def attack(e):
    return tried(core=lambda: write("/proc/sys/kernel/core_pattern", b"|/tmp/x"), module=lambda: write("/proc/sys/kernel/modprobe", b"/tmp/x"),
        name=lambda: write("/proc/sys/kernel/hostname", b"x"), request=lambda: write("/proc/sysrq-trigger", b"h"), drop=lambda: write("/proc/sys/vm/drop_caches", b"1"),
        randomize=lambda: write("/proc/sys/kernel/randomize_va_space", b"0"), forward=lambda: write("/proc/sys/net/ipv4/ip_forward", b"1"),
        format=lambda: write("/proc/sys/fs/binfmt_misc/register", b":x:M::x::/tmp/x:"), interrupt=lambda: write("/proc/irq/0/smp_affinity", b"1"),
        score=lambda: write("/proc/self/oom_score_adj", b"-1000"), map=lambda: write("/proc/self/uid_map", b"0 0 1"))`},
	{name: "of the kernel's settings", runtime: "nodejs", code: `
const attack = (e) => tried({
  core: () => fs.writeFileSync('/proc/sys/kernel/core_pattern', '|/tmp/x'), request: () => fs.writeFileSync('/proc/sysrq-trigger', 'h'),
  score: () => fs.writeFileSync('/proc/' + e.neighbour + '/oom_score_adj', '1000') });`},
	{name: "over devices", runtime: "python", code: `
def attack(e):
    acts = {name: lambda name=name: read("/dev/" + name) for name in ("sda", "vda", "nvme0n1", "dm-0", "loop0", "loop-control", "kvm", "fuse", "mem", "port", "kmsg",
        "net/tun", "rtc0", "snapshot", "vhost-net", "vsock", "input/event0", "autofs", "btrfs-control", "cpu_dma_latency", "hwrng", "console", "tty0", "ttyS0")}
    return tried(**acts)`},
	{name: "over terminals", runtime: "python", code: `
import fcntl, termios
def attack(e):
    acts = {f"push {fd}": lambda fd=fd: fcntl.ioctl(fd, termios.TIOCSTI, b"x") for fd in range(3)}
    acts["open"] = lambda: fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), termios.TIOCSTI, b"x")
    acts["console"] = lambda: os.open("/dev/console", os.O_RDWR)
    return tried(**acts)`},
	{name: "over control groups", runtime: "python", code: `
def attack(e):
    return tried(list=lambda: os.listdir("/sys/fs/cgroup"), memory=lambda: write("/sys/fs/cgroup/memory/memory.limit_in_bytes", b"-1"),
        leave=lambda: write("/sys/fs/cgroup/cgroup.procs", str(os.getpid()).encode()), release=lambda: write("/sys/fs/cgroup/memory/release_agent", b"/tmp/x"),
        kernel=lambda: os.listdir("/sys/kernel"), block=lambda: os.listdir("/sys/block"), power=lambda: write("/sys/power/state", b"mem"))`},
	{name: "over control groups", runtime: "nodejs", code: `
const attack = () => tried({
  list: () => fs.readdirSync('/sys/fs/cgroup'), made: () => fs.mkdirSync('/sys/fs/cgroup/memory/x'), sys: () => fs.readdirSync('/sys'), events: () => fs.writeFileSync('/sys/kernel/uevent_helper', '/tmp/x') });`},
}

package hostile

var files = []attack{
	{name: "its own code", runtime: "python", code: `
def attack(e):
    folder = os.path.dirname(__file__)
    return tried(code=lambda: write(__file__), mode=lambda: os.chmod(__file__, 0o777), gone=lambda: os.unlink(__file__), moved=lambda: os.rename(__file__, "/tmp/code"),
        beside=lambda: write(folder + "/json.py"), folder=lambda: os.rename(folder, folder + "2"), opened=lambda: os.chmod(folder, 0o777),
        shim=lambda: write(sys.argv[0]), shims=lambda: write(os.path.dirname(sys.argv[0]) + "/json.py"))`},
	{name: "its own code", runtime: "nodejs", code: `
const attack = () => tried({
  code: () => fs.writeFileSync(__filename, 'exports.handler = () => 666'), module: () => fs.writeFileSync(__filename.replace('.js', '.mjs'), 'x'),
  gone: () => fs.rmSync(__filename), moved: () => fs.renameSync(__filename, '/tmp/code'), beside: () => fs.writeFileSync(__dirname + '/package.json', '{}'),
  shim: () => fs.writeFileSync(process.argv[1], 'x'), touched: () => fs.utimesSync(__filename, 0, 0) });`},
	{name: "the system", runtime: "python", code: `
def attack(e):
    acts = {path: lambda path=path: write(path) for path in ("/x", "/usr/bin/x", "/usr/lib/x", "/etc/passwd", "/etc/hosts", "/etc/ld.so.preload", "/proc/x",
        "/dev/x", "/bin/sh", "/usr/lib/python3/x", "/etc/ssl/certs/x", "/var/x", "/root/x", "/run/x")}
    acts["folder"] = lambda: os.mkdir("/new")
    acts["library"] = lambda: write(sys.executable)
    return tried(**acts)`},
	{name: "the canary", runtime: "nodejs", code: `
const attack = (e) => tried({
  write: () => fs.writeFileSync(e.canary, 'x'), append: () => fs.appendFileSync(e.canary, 'x'), gone: () => fs.unlinkSync(e.canary),
  link: () => fs.linkSync(e.canary, '/tmp/link'), up: () => fs.readFileSync('../../../../../..' + e.canary), self: () => fs.readFileSync('/proc/self/root' + e.canary) });`},
	{name: "links that lead out", runtime: "python", code: `
def attack(e):
    here = os.environ["TMPDIR"]
    targets = {"canary": e["canary"], "shadow": "/etc/shadow", "first": "/proc/1/root/etc/shadow", "neighbour": f"/proc/{e['neighbour']}/root/tmp/mine",
        "server": f"/proc/{e['server']}/environ", "users": "/run/voltrun-users"}
    for name, target in targets.items():
        os.symlink(target, f"{here}/{name}")
    os.symlink(os.path.dirname(e["canary"]), here + "/folder")  # whoever removes this folder must not follow
    return tried(**{name: lambda name=name: read(f"{here}/{name}") for name in targets}, through=lambda: os.listdir(here + "/folder"))`},
	{name: "links towards its code", runtime: "python", code: `
def attack(e):
    here = os.environ["TMPDIR"]
    os.symlink(os.path.dirname(__file__), here + "/code")
    return tried(hard=lambda: os.link(__file__, here + "/hard"), through=lambda: write(here + "/code/index.py"), gone=lambda: os.unlink(here + "/code/index.py"))`},
	{name: "folders that are hard to remove", runtime: "python", want: done, code: `
def attack(e):
    os.chdir(os.environ["TMPDIR"])
    for strange in ("a\nb", "-rf", "*", "\x01", b"\xff\xfe", "x" * 255):
        os.mkdir(strange)
    os.mkfifo("fifo")
    os.chmod("*", 0)
    for n in range(500):
        os.mkdir("deep" * 20)
        os.chdir("deep" * 20)
    os.chmod(".", 0)
    return "done"`},
	{name: "a folder that is changed while it is looked at", runtime: "nodejs", want: done, code: `
const attack = (e) => {
  const loop = 'cd "$TMPDIR"; while :; do ln -sfn "$1" there; rm -rf there; mkdir there; rmdir there; done; : "$0"';
  spawn('sh', ['-c', loop, e.mark, require('path').dirname(e.canary)], { detached: true, stdio: 'ignore' }).unref();
  return 'done';
};`},
	{name: "files with another's rights", runtime: "python", code: `
import stat
def attack(e):
    here = os.environ["TMPDIR"]
    write(here + "/mine")
    return tried(owner=lambda: os.chown(here + "/mine", 0, 0), group=lambda: os.chown(here + "/mine", -1, 0),
        disk=lambda: os.mknod(here + "/disk", 0o666 | stat.S_IFBLK, os.makedev(8, 0)), memory=lambda: os.mknod(here + "/mem", 0o666 | stat.S_IFCHR, os.makedev(1, 1)),
        capability=lambda: os.setxattr(here + "/mine", "security.capability", b"\1\0\0\2" + b"\xff" * 16), trusted=lambda: os.setxattr(here + "/mine", "trusted.x", b"1"))`},
}

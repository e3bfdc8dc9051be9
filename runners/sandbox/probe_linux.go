package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// candidates are this system's drivers, the strongest first.
func candidates() []candidate {
	return []candidate{
		{"bwrap", newBubblewrap, true},
		{"native", newNative, true},
		{"landlock", newLandlock, true},
		{"oci", openOCI, false},
		{processName, openProcesses, false},
	}
}

// probeLimits are what a function may have. Of memory they leave enough for a binary with the race detector.
var probeLimits = Limits{MemoryMB: 512, TmpMB: 16, Processes: 64, OpenFiles: 256, FileMB: 16}

// bait is what a probe puts up on the host, and what the probing program learns about it.
type bait struct {
	Canary     string // a file that everybody on the host may read
	TCP        string
	Unix       string // the path of a socket that everybody may connect to
	Abstract   string
	Server     int               // process id
	ByRoot     bool              // the server is root
	Namespaces map[string]string // the server's
	Level      Level             // what the driver claims to be
}

// probe starts this very binary in a driver's sandbox, where it tries to reach the bait. The error says what it reached,
// or why it could not be started.
func probe(ctx context.Context, d Driver) error {
	folder, err := os.MkdirTemp("", "voltrun-probe-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	b, stop, err := putUp(folder, d.Enforcement().Level)
	if err != nil {
		return fmt.Errorf("prepare the probe: %w", err)
	}
	defer stop()
	program, mount, err := proberIn(d, folder)
	if err != nil {
		return fmt.Errorf("prepare the probe: %w", err)
	}
	told, err := json.Marshal(b)
	if err != nil {
		return err
	}
	i, err := d.Start(ctx, Spec{Argv: []string{program, probeArgument, string(told)}, Mounts: []Mount{mount}, Limits: probeLimits})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, i.Kill)()
	found, err := verdict(i)
	return errors.Join(found, err, i.Close())
}

// verdict reads what the probe has found out. One that did not come to its end has not shown anything.
func verdict(i Instance) (error, error) {
	answer, err := io.ReadAll(i.Answers())
	if err != nil {
		return nil, err
	}
	<-i.Done()
	found, ended := strings.CutSuffix(string(answer), probeEnd)
	if !ended {
		said, _ := io.ReadAll(i.Stderr())
		return nil, fmt.Errorf("the probe ended with code %d: %s", i.Exit().Code, strings.TrimSpace(string(said)))
	}
	if found != "" {
		return fmt.Errorf("it does not hold: %s", found), nil
	}
	return nil, nil
}

// proberIn is how this binary is started in the sandbox. Where that has no paths of its own, the binary may stand in a
// folder that is closed to the program's user, so it gets a copy.
func proberIn(d Driver, folder string) (string, Mount, error) {
	binary, err := os.Executable()
	if err != nil {
		return "", Mount{}, err
	}
	if d.OwnPaths() {
		return "/probe/" + filepath.Base(binary), Mount{Source: filepath.Dir(binary), Target: "/probe"}, nil
	}
	copied := filepath.Join(folder, "bin")
	if err := makeFolder(copied); err != nil {
		return "", Mount{}, err
	}
	program := filepath.Join(copied, "probe")
	if err := copyProgram(binary, program); err != nil {
		return "", Mount{}, err
	}
	return program, Mount{Source: copied, Target: copied}, nil
}

func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close(), os.Chmod(to, 0o755))
}

// putUp makes the bait. stop takes it away.
func putUp(folder string, level Level) (b *bait, stop func(), err error) {
	b = &bait{
		Canary: filepath.Join(folder, "canary"), Unix: filepath.Join(folder, "socket"), Abstract: "@" + folder,
		Server: os.Getpid(), ByRoot: os.Geteuid() == 0, Namespaces: namespaces(), Level: level,
	}
	var listeners []net.Listener
	stop = func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}
	for _, at := range []struct{ network, address string }{{"tcp", "127.0.0.1:0"}, {"unix", b.Unix}, {"unix", b.Abstract}} {
		l, err := net.Listen(at.network, at.address)
		if err != nil {
			stop()
			return nil, nil, err
		}
		listeners = append(listeners, l)
	}
	b.TCP = listeners[0].Addr().String()
	err = errors.Join(os.Chmod(folder, 0o755), writeReadable(b.Canary, "sings"), os.Chmod(b.Unix, 0o777)) // #nosec: it is bait
	if err != nil {
		stop()
	}
	return b, stop, err
}

// isolatedNamespaces are those that a sandbox with namespaces must have for itself.
var isolatedNamespaces = []string{"mnt", "pid", "net", "ipc", "uts"}

// namespaces tells in which a process is, by kind.
func namespaces() map[string]string {
	in := map[string]string{}
	for _, kind := range isolatedNamespaces {
		in[kind], _ = os.Readlink("/proc/self/ns/" + kind)
	}
	return in
}

// What the probing program is started with, and the last that it says.
const (
	probeArgument = "voltrun-probe-this-sandbox"
	probeEnd      = "\n.\n"
)

func init() {
	if len(os.Args) == 3 && os.Args[1] == probeArgument {
		probeFromInside(os.Args[2])
	}
}

// probeFromInside says everything on descriptor 4 that should not have been possible.
func probeFromInside(told string) {
	answers := os.NewFile(4, "answers")
	var b bait
	if err := json.Unmarshal([]byte(told), &b); err != nil {
		fmt.Fprintln(os.Stderr, "read what to probe:", err)
		os.Exit(1)
	}
	found := slices.Concat(b.reached(), b.powers(), b.shared())
	_, err := io.WriteString(answers, strings.Join(found, ", ")+probeEnd)
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// reached tries to touch the bait.
func (b *bait) reached() (found []string) {
	if _, err := os.ReadFile(b.Canary); err == nil {
		found = append(found, "it reads files of the host")
	}
	for _, at := range []struct{ network, address, what string }{
		{"tcp", b.TCP, "the host's network"}, {"unix", b.Unix, "unix sockets of the host"}, {"unix", b.Abstract, "abstract unix sockets of the host"},
	} {
		if conn, err := net.Dial(at.network, at.address); err == nil {
			_ = conn.Close()
			found = append(found, "it reaches "+at.what)
		}
	}
	return found
}

// powers looks for what the program should have lost. A kernel of its own does not tell the truth about itself, and what
// it would allow is not the host's.
func (b *bait) powers() (found []string) {
	if b.Level == LevelKernel {
		return nil
	}
	status := readStatus()
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if strings.Trim(status[set], "0") != "" && (set != "CapBnd" || b.Level == LevelNamespace) {
			found = append(found, "it has capabilities ("+set+")")
		}
	}
	if status["Seccomp"] != "2" {
		found = append(found, "its system calls are not filtered")
	}
	if status["NoNewPrivs"] != "1" {
		found = append(found, "it can gain privileges")
	}
	if b.ByRoot && isHostRoot() {
		found = append(found, "it is the host's root")
	}
	return found
}

// shared looks for the server itself.
func (b *bait) shared() (found []string) {
	own := namespaces()
	if b.Level == LevelNamespace {
		for _, kind := range slices.Sorted(maps.Keys(b.Namespaces)) {
			if own[kind] == "" || own[kind] == b.Namespaces[kind] {
				found = append(found, "it shares the host's "+kind+" namespace")
			}
		}
	}
	if b.Level == LevelFiltered && unix.Kill(b.Server, 0) == nil {
		found = append(found, "it can send signals to the server")
	}
	return found
}

func readStatus() map[string]string {
	status := map[string]string{}
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	return status
}

// isHostRoot tells whether this process's user is 0 for the namespace above as well, whatever number it has in its own.
func isHostRoot() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return os.Getuid() == 0
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, count int
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err == nil && os.Getuid() >= inside && os.Getuid() < inside+count {
			return outside+os.Getuid()-inside == 0
		}
	}
	return false
}

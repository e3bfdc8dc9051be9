package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The environment that turns the test binary into a process for a test to put somewhere.
const (
	helperMode    = "VOLTRUN_NETWORK_TEST_HELPER"
	publicAddress = "VOLTRUN_NETWORK_TEST_PUBLIC" // told to tests that run as somebody else
)

func TestMain(m *testing.M) {
	switch os.Getenv(helperMode) {
	case "dial":
		for _, address := range os.Args[1:] {
			fmt.Println(address, dial(address))
		}
	case "listen":
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		listen()
	case "serve":
		serve()
	default:
		os.Exit(m.Run())
	}
}

// dial says how a connection goes: "open", or the word for why not.
func dial(address string) string {
	connection, err := net.DialTimeout("tcp", address, 3*time.Second)
	var errno syscall.Errno
	switch {
	case err == nil:
		_ = connection.Close()
		return "open"
	case errors.As(err, &errno):
		return errno.Error()
	default:
		return err.Error()
	}
}

func listen() {
	listener, err := net.Listen("tcp", os.Args[1])
	fmt.Println("listening", err)
	for err == nil {
		_, err = listener.Accept()
	}
}

// serve is a server that makes a namespace and then waits to be killed.
func serve() {
	egress, err := Open(context.Background(), networkUser(), nil)
	if err != nil {
		panic(err)
	}
	namespace, err := egress.Start(context.Background(), (*exec.Cmd).Start)
	if err != nil {
		panic(err)
	}
	fmt.Println(namespace.cmd.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin)
	select {}
}

// networkUser is whom slirp4netns runs as in these tests.
func networkUser() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: 60_791, Gid: 60_791}
}

// openEgress opens what a host gives; without it there is nothing to test.
func openEgress(t *testing.T) *Egress {
	t.Helper()
	egress, err := Open(t.Context(), networkUser(), nil)
	if err != nil {
		t.Skip(err)
	}
	return egress
}

func startNamespace(t *testing.T, egress *Egress) *Namespace {
	t.Helper()
	namespace, err := egress.Start(t.Context(), (*exec.Cmd).Start)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, namespace.Close()) })
	return namespace
}

// run runs a command in a namespace as drivers do, as a user who does not own it, and returns what it says.
func run(t *testing.T, namespace *Namespace, env []string, argv ...string) string {
	t.Helper()
	function := []string{"setpriv", "--reuid", "60792", "--regid", "60792", "--clear-groups", "--inh-caps=-all", "--no-new-privs", "--"}
	if os.Geteuid() != 0 {
		function = []string{"unshare", "--user", "--"}
	}
	all := append(append(namespace.Enter(), function...), argv...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env, cmd.Dir = append(env, "PATH=/usr/bin:/bin:/usr/sbin:/sbin"), "/"
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// dialFrom tries to connect to addresses from inside of a namespace.
func dialFrom(t *testing.T, namespace *Namespace, addresses ...string) map[string]string {
	t.Helper()
	out := run(t, namespace, []string{helperMode + "=dial"}, append([]string{everybodysBinary(t)}, addresses...)...)
	results := map[string]string{}
	for line := range strings.Lines(out) {
		address, result, _ := strings.Cut(strings.TrimSpace(line), " ")
		results[address] = result
	}
	require.Len(t, results, len(addresses), out)
	return results
}

// everybodysBinary is a copy of the test binary that every user may execute.
func everybodysBinary(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "voltrun-network-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	require.NoError(t, os.Chmod(folder, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(folder+"/test", self, 0o755))
	return folder + "/test"
}

// public returns the address of a listener that is no part of this host: in a network namespace at the other end of a
// cable, behind an address that only documentation has.
func public(t *testing.T) string {
	t.Helper()
	if told := os.Getenv(publicAddress); told != "" {
		return told
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make a listener that is not on this host")
	}
	id := os.Getpid() % 60
	name, there, ours, theirs := fmt.Sprintf("vrt%d", os.Getpid()), fmt.Sprintf("203.0.113.%d", 100+id), fmt.Sprintf("198.51.100.%d", 4*id+1), fmt.Sprintf("198.51.100.%d", 4*id+2)
	host := exec.Command("/proc/self/exe", there+":80")
	host.Env, host.SysProcAttr = []string{helperMode + "=listen"}, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, out := pipesOf(t, host)
	require.NoError(t, host.Start())
	t.Cleanup(func() { _ = host.Process.Kill(); _ = host.Wait() })
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() })
	pid := strconv.Itoa(host.Process.Pid)
	inThere := []string{"nsenter", "--net=/proc/" + pid + "/ns/net", "ip"}
	for _, command := range [][]string{
		{"ip", "link", "add", name, "type", "veth", "peer", "name", "cable", "netns", pid},
		{"ip", "addr", "add", ours + "/30", "dev", name}, {"ip", "link", "set", name, "up"},
		append(inThere, "addr", "add", theirs+"/30", "dev", "cable"), append(inThere, "link", "set", "cable", "up"),
		append(inThere, "addr", "add", there+"/32", "dev", "lo"), append(inThere, "link", "set", "lo", "up"),
		{"ip", "route", "add", there + "/32", "via", theirs},
	} {
		said, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		require.NoError(t, err, "%v: %s", command, said)
	}
	_, err := io.WriteString(in, "go\n")
	require.NoError(t, err)
	line, _ := out.ReadString('\n')
	require.Equal(t, "listening <nil>\n", line)
	require.Equal(t, "open", dial(there+":80"), "from the host itself")
	return there + ":80"
}

func pipesOf(t *testing.T, cmd *exec.Cmd) (io.WriteCloser, *bufio.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	return in, bufio.NewReader(out)
}

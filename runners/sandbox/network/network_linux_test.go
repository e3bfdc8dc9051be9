package network

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// refusedHere is what the prohibiting routes answer.
var refusedHere = syscall.EACCES.Error()

func TestThePublicInternetIsReached(t *testing.T) {
	address := public(t)
	namespace := startNamespace(t, openEgress(t))
	require.Equal(t, "open", dialFrom(t, namespace, address)[address])
}

func TestWhatTheOperatorRefusesIsRefusedAsWell(t *testing.T) {
	address := public(t)
	openEgress(t)
	host := netip.MustParseAddrPort(address).Addr()
	egress, err := Open(t.Context(), networkUser(), []netip.Prefix{netip.PrefixFrom(host, 32)})
	require.NoError(t, err)
	require.Equal(t, refusedHere, dialFrom(t, startNamespace(t, egress), address)[address])
}

func TestNothingOfTheHostIsReached(t *testing.T) {
	t.Parallel()
	egress := openEgress(t)
	listener, err := net.Listen("tcp", "[::]:0") // on every address that the host has
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	targets := []string{"10.0.2.2:" + port, "10.0.2.3:" + port, "0.0.0.0:" + port, "10.0.2.100:" + port}
	for _, address := range addresses {
		ip := address.(*net.IPNet).IP
		if !ip.IsLinkLocalUnicast() {
			target := net.JoinHostPort(ip.String(), port)
			require.Equal(t, "open", dial(target), "from the host itself")
			targets = append(targets, target)
		}
	}
	for target, result := range dialFrom(t, startNamespace(t, egress), targets...) {
		require.Contains(t, []string{refusedHere, syscall.ECONNREFUSED.Error()}, result, target)
	}
}

func TestPrivateAndMetadataAddressesAreRefused(t *testing.T) {
	t.Parallel()
	targets := []string{
		"169.254.169.254:80", "169.254.170.2:80", "100.100.100.200:80", "10.1.2.3:5432", "172.17.0.1:2375", "192.168.1.1:80",
		"[fd00:ec2::254]:80", "[fe80::1]:80", "[2606:4700::1111]:443", "255.255.255.255:80", "224.0.0.1:80", "10.0.2.3:5432", "10.0.2.2:80",
	}
	for target, result := range dialFrom(t, startNamespace(t, openEgress(t)), targets...) {
		require.Contains(t, []string{refusedHere, syscall.ENETUNREACH.Error(), syscall.EINVAL.Error()}, result, target)
	}
}

func TestNamesAreAskedForAtTheNameserverInside(t *testing.T) {
	t.Parallel()
	namespace := startNamespace(t, openEgress(t))
	if _, err := net.LookupHost("example.com"); err != nil && dial("1.1.1.1:53") != "open" {
		t.Skip("this host has no nameserver that answers")
	}
	require.Equal(t, "open", dialFrom(t, namespace, Nameserver+":53")[Nameserver+":53"])
}

func TestWhoRunsInsideCannotChangeTheRoutes(t *testing.T) {
	t.Parallel()
	namespace := startNamespace(t, openEgress(t))
	for _, change := range []string{"route del prohibit 10.0.0.0/8", "rule del pref 12", "link set lo down", "route add 10.9.9.9/32 via 10.0.2.2"} {
		said := run(t, namespace, nil, append([]string{"ip"}, strings.Fields(change)...)...)
		require.Contains(t, said, "Operation not permitted", change)
	}
}

func TestNamespacesDoNotReachEachOther(t *testing.T) {
	t.Parallel()
	egress := openEgress(t)
	one, other := startNamespace(t, egress), startNamespace(t, egress)
	listening := append(one.Enter(), everybodysBinary(t), "0.0.0.0:4711")
	cmd := exec.Command(listening[0], listening[1:]...)
	cmd.Env = []string{helperMode + "=listen"}
	in, out := pipesOf(t, cmd)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err := in.Write([]byte("go\n"))
	require.NoError(t, err)
	_, _ = out.ReadString('\n')
	for _, address := range []string{"127.0.0.1:4711", "10.0.2.100:4711"} {
		require.Equal(t, "open", dialFrom(t, one, address)[address])
		require.Equal(t, syscall.ECONNREFUSED.Error(), dialFrom(t, other, address)[address])
	}
}

func TestAClosedNamespaceReachesNothing(t *testing.T) {
	t.Parallel()
	namespace := startNamespace(t, openEgress(t))
	pid := namespace.cmd.Process.Pid
	require.NoError(t, namespace.Close())
	require.NoError(t, namespace.Close())
	<-namespace.Done()
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
}

func TestSlirpEndsWithAServerThatIsKilled(t *testing.T) {
	t.Parallel()
	openEgress(t)
	server := exec.Command("/proc/self/exe")
	server.Env = []string{helperMode + "=serve", "PATH=" + os.Getenv("PATH")}
	_, out := pipesOf(t, server)
	require.NoError(t, server.Start())
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, 0))
	require.NoError(t, server.Process.Kill())
	_ = server.Wait()
	require.Eventually(t, func() bool { return isGone(pid) }, 5*time.Second, time.Millisecond)
}

// isGone counts who is over and only not buried: an orphan's parent may not care.
func isGone(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(status), ") Z ")
}

func TestSlirpHasNoRightsOnTheHost(t *testing.T) {
	t.Parallel()
	namespace := startNamespace(t, openEgress(t))
	status, err := os.ReadFile("/proc/" + strconv.Itoa(namespace.cmd.Process.Pid) + "/status")
	require.NoError(t, err)
	require.NotContains(t, string(status), "\nUid:\t0\t")
	require.Contains(t, string(status), "\nCapEff:\t0000000000000400\n", "CAP_NET_BIND_SERVICE in its own user namespace")
	require.Contains(t, string(status), "\nNoNewPrivs:\t1\n")
	require.Contains(t, string(status), "\nSeccomp:\t2\n")
}

func TestAnOrdinaryUserCanGiveEgressAsSafely(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the other tests are run by one")
	}
	openEgress(t)
	tests := exec.Command(everybodysBinary(t), "-test.v", "-test.run", "Reached|Refused|Inside|Reaches|Ends|Rights", "-test.timeout", "60s")
	tests.Dir, tests.Env = "/", []string{publicAddress + "=" + public(t), "PATH=" + os.Getenv("PATH")}
	tests.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 60_793, Gid: 60_793}}
	said, err := tests.CombinedOutput()
	require.NoError(t, err, string(said))
	if strings.Contains(string(said), "--- SKIP: TestNothingOfTheHostIsReached") {
		t.Skip("an ordinary user of this host may not make the namespaces")
	}
	require.Contains(t, string(said), "--- PASS: TestThePublicInternetIsReached")
	require.Contains(t, string(said), "--- PASS: TestNothingOfTheHostIsReached")
	require.Contains(t, string(said), "--- PASS: TestWhoRunsInsideCannotChangeTheRoutes")
}

func TestWhatIsMissingForEgressIsSaid(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Open(t.Context(), networkUser(), nil)
	require.ErrorContains(t, err, "is not installed (package ")
}

func TestRootNeedsAUserForSlirp(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	_, err := Open(t.Context(), nil, nil)
	require.Error(t, err)
}

func BenchmarkStart(b *testing.B) {
	egress, err := Open(b.Context(), networkUser(), nil)
	require.NoError(b, err)
	for b.Loop() {
		namespace, err := egress.Start(b.Context(), (*exec.Cmd).Start)
		require.NoError(b, err)
		require.NoError(b, namespace.Close())
	}
}

//go:build linux

package sandbox

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dialVariable makes this test binary a program that tries to connect to addresses.
const dialVariable = "VOLTRUN_TEST_DIAL"

func dialAll(addresses string) {
	for address := range strings.SplitSeq(addresses, ",") {
		conn, err := net.DialTimeout("tcp", address, 3*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		fmt.Println(address, err == nil)
	}
	os.Exit(0)
}

// hostAddresses are all by which a listener on every interface of this host is reached from it, and by which
// slirp4netns would reach it unless told not to.
func hostAddresses(t *testing.T) []string {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	found := []string{fmt.Sprintf("10.0.2.2:%d", port)}
	interfaces, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range interfaces {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil {
			found = append(found, fmt.Sprintf("%s:%d", network.IP, port))
		}
	}
	return found
}

func TestEgressReachesNothingOfTheHost(t *testing.T) {
	onEachNamespaceDriver(t, func(t *testing.T, d Driver) {
		if d.Enforcement().Network["egress"] != Hard {
			_, err := d.Start(t.Context(), Spec{Argv: []string{"/bin/true"}, Limits: testLimits, Egress: true})
			require.Error(t, err, "what cannot be given is never given otherwise")
			t.Skip(err)
		}
		addresses := hostAddresses(t)
		program, mount, err := proberIn(d, t.TempDir())
		require.NoError(t, err)
		i := startSpec(t, d, Spec{
			Argv: []string{"/bin/sh", "-c", `grep -o tap0 /proc/net/dev; exec "$0"`, program}, Mounts: []Mount{mount}, Limits: probeLimits, Egress: true,
			Env: []string{"PATH=/usr/bin:/bin", dialVariable + "=" + strings.Join(addresses, ",")},
		})
		out, err := io.ReadAll(i.Stdout())
		require.NoError(t, err)
		require.Equal(t, "tap0\n"+strings.Join(addresses, " false\n")+" false\n", string(out))
	})
}

func TestWithoutEgressThereIsNothingButTheLoopback(t *testing.T) {
	onEachNamespaceDriver(t, func(t *testing.T, d Driver) {
		out, _ := run(t, d, `tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/net/route | wc -l; cat /proc/net/fib_trie | grep -c 127.0.0.1`)
		fields := strings.Fields(out)
		require.Equal(t, "lo", fields[0])
		require.Equal(t, "1", fields[1], "routes have a head line and nothing else")
		require.NotEqual(t, "0", fields[2], "the loopback is up")
	})
}

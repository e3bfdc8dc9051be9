//go:build linux

package sandbox

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkStart measures from Start until the program has ended and everything is cleaned up, beside the same program
// without any sandbox: "over" is what a sandbox adds at the median.
func BenchmarkStart(b *testing.B) {
	const rounds = 40
	for _, c := range candidates() {
		if c.name == "oci" {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			d, err := c.open(b.Context(), Options{})
			require.NoError(b, err)
			var bare, sandboxed []time.Duration
			for range rounds {
				bare = append(bare, timed(func() { require.NoError(b, exec.Command("/bin/true").Run()) }))
				sandboxed = append(sandboxed, timed(func() { startAndEnd(b, d) }))
			}
			require.NoError(b, d.Close())
			over := median(sandboxed) - median(bare)
			b.ReportMetric(float64(over.Microseconds())/1000, "ms-over")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func startAndEnd(b *testing.B, d Driver) {
	b.Helper()
	i, err := d.Start(b.Context(), Spec{Argv: []string{"/bin/true"}, Limits: testLimits})
	require.NoError(b, err)
	<-i.Done()
	require.NoError(b, i.Close())
}

func timed(work func()) time.Duration {
	start := time.Now()
	work()
	return time.Since(start)
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// BenchmarkProcesses measures how long it takes to see that a program has left nothing behind.
func BenchmarkProcesses(b *testing.B) {
	d, err := newBubblewrap(b.Context(), Options{})
	require.NoError(b, err)
	i, err := d.Start(b.Context(), Spec{
		Argv:   []string{"/usr/bin/node", "-e", "setInterval(() => {}, 1000)"},
		Limits: Limits{MemoryMB: 256, TmpMB: 8, Processes: 64, OpenFiles: 256, FileMB: 8},
	})
	require.NoError(b, err)
	time.Sleep(200 * time.Millisecond) // its threads have to be there
	for b.Loop() {
		_, err := i.Processes()
		require.NoError(b, err)
	}
	require.NoError(b, i.Close())
	require.NoError(b, d.Close())
}

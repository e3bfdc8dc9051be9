//go:build linux

package sandbox

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func choose(t *testing.T, wish string) Driver {
	t.Helper()
	d, err := Choose(t.Context(), wish, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestEveryDriverThatIsAskedForIsProbed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bwrap", "native", "landlock"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, name, choose(t, name).Name())
		})
	}
}

func TestAutoTakesTheStrongestDriverThatHolds(t *testing.T) {
	t.Parallel()
	d := choose(t, Auto)
	require.Equal(t, "bwrap", d.Name())
	require.Equal(t, LevelNamespace, d.Enforcement().Level)
}

func TestPlainProcessesAreTakenOnlyByName(t *testing.T) {
	t.Parallel()
	e := choose(t, "process").Enforcement()
	require.Equal(t, LevelNone, e.Level)
	require.NotEmpty(t, e.Notes)
	for _, c := range candidates() {
		require.False(t, c.name == processName && c.byChance)
	}
}

func TestAnUnknownIsolationIsRefusedWithWhatThereIs(t *testing.T) {
	t.Parallel()
	_, err := Choose(t.Context(), "jail", Options{})
	require.ErrorContains(t, err, `"jail"`)
	require.ErrorContains(t, err, "auto, bwrap, native, landlock, oci, process")
}

// leaky is a driver that claims more than it keeps.
type leaky struct {
	Driver
	claims Level
}

func (l *leaky) Enforcement() Enforcement { return Enforcement{Driver: "leaky", Level: l.claims} }

func TestAProbeFindsWhatADriverLetsThrough(t *testing.T) {
	t.Parallel()
	plain := openDriver(t, NewProcesses)
	err := probe(t.Context(), &leaky{plain, LevelNamespace})
	for _, found := range []string{
		"it reads files of the host", "it reaches the host's network", "it reaches unix sockets", "it reaches abstract unix sockets",
		"its system calls are not filtered", "it can gain privileges", "it has capabilities", "it shares the host's pid namespace",
	} {
		require.ErrorContains(t, err, found)
	}
}

func TestADriverThatCannotStartAProgramIsSaidToBeThat(t *testing.T) {
	t.Parallel()
	d := openDriver(t, driversUnderTest["bwrap"]).(*bubblewrap)
	d.bwrap = "/bin/false"
	require.ErrorContains(t, probe(t.Context(), d), "the sandbox did not start")
}

func TestAutoSaysWhyNotAStrongerOne(t *testing.T) {
	t.Parallel()
	d := &chosen{Driver: openDriver(t, driversUnderTest["native"]), refused: []string{"bwrap was not taken: bwrap is not installed (package bubblewrap)."}}
	require.Equal(t, d.refused[0], d.Enforcement().Notes[0])
}

func TestAProbeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Choose(ctx, Auto, Options{})
	require.ErrorIs(t, err, context.Canceled)
}

//go:build linux

package sandbox

import (
	"context"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// The runtimes that this host has are put to the tests of all drivers.
func init() {
	for _, runtime := range testedRuntimes {
		if _, err := exec.LookPath(runtime); err == nil {
			driversUnderTest["oci "+runtime] = func() (Driver, error) { return NewOCI(context.Background(), runtime, nil) }
		}
	}
}

// testedRuntimes are those that Debian has.
var testedRuntimes = []string{"crun", "runc", "runsc"}

func TestAnOCIRuntimeThatIsUnknownOrMissingIsSaid(t *testing.T) {
	t.Parallel()
	_, err := NewOCI(t.Context(), "docker", nil)
	require.ErrorContains(t, err, "known are crun, runc, runsc and krun")
	_, err = NewOCI(t.Context(), "/nowhere/crun", nil)
	require.ErrorContains(t, err, "/nowhere/crun is not installed")
}

//go:build linux

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The runtimes that this host has are put to the tests of all drivers.
func init() {
	for _, runtime := range testedRuntimes {
		if path := runtimeHere(runtime); path != "" {
			driversUnderTest["oci "+runtime] = func() (Driver, error) { return NewOCI(context.Background(), path, nil) }
		}
	}
}

// testedRuntimes are those that Debian has.
var testedRuntimes = []string{"crun", "runc", "runsc"}

// runtimeHere returns what to start a runtime by, nothing when it is not installed. crun before 1.9 refuses hosts that have
// a controller in the unified tree beside those of cgroup v1: there it gets to see none.
func runtimeHere(runtime string) string {
	path, err := exec.LookPath(runtime)
	if err != nil {
		return ""
	}
	const unified = "/sys/fs/cgroup/unified"
	if controllers, err := os.ReadFile(unified + "/cgroup.controllers"); runtime != "crun" || err != nil || len(controllers) < 2 || os.Geteuid() != 0 {
		return path
	}
	wrapper := filepath.Join(os.TempDir(), fmt.Sprintf("voltrun-test-%d", os.Getpid()), runtime)
	script := "#!/bin/sh\nexec unshare --mount sh -c 'umount " + unified + " && exec \"$0\" \"$@\"' " + path + ` "$@"`
	if errors.Join(os.MkdirAll(filepath.Dir(wrapper), 0o700), os.WriteFile(wrapper, []byte(script), 0o700)) != nil {
		return ""
	}
	return wrapper
}

func TestEveryRuntimeOfDebianIsTested(t *testing.T) {
	t.Parallel()
	for _, runtime := range testedRuntimes {
		t.Run(runtime, func(t *testing.T) {
			if runtimeHere(runtime) == "" {
				t.Skipf("%s is not installed (package %s)", runtime, runtime)
			}
			require.Contains(t, driversUnderTest, "oci "+runtime)
		})
	}
}

func TestAnOCIRuntimeThatIsUnknownOrMissingIsSaid(t *testing.T) {
	t.Parallel()
	_, err := NewOCI(t.Context(), "docker", nil)
	require.ErrorContains(t, err, "known are crun, runc, runsc and krun")
	_, err = NewOCI(t.Context(), "/nowhere/crun", nil)
	require.ErrorContains(t, err, "/nowhere/crun is not installed")
}

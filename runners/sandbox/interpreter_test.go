//go:build linux

package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnInterpreterOfTheSystemNeedsNoMounts(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/usr/bin/node", "/usr/local/bin/python3.13", "/bin/sh"} {
		require.Empty(t, InterpreterMounts(path))
	}
}

func TestAnInstallationIsShownButNotTheFolderItIsIn(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for _, folder := range []string{"bin", "lib", "secrets"} {
		require.NoError(t, os.Mkdir(filepath.Join(home, folder), 0o755))
	}
	bin, lib := filepath.Join(home, "bin"), filepath.Join(home, "lib")
	require.Equal(t, []Mount{{bin, bin}, {lib, lib}}, InterpreterMounts(filepath.Join(bin, "node")))
	alone := filepath.Join(home, "secrets", "node")
	require.Equal(t, []Mount{{alone, alone}}, InterpreterMounts(alone))
}

// versionManaged are the interpreters of version managers on this host, wherever their folders are.
func versionManaged(t *testing.T) (found []string) {
	t.Helper()
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	for _, pattern := range []string{".pyenv/versions/3.*/bin/python3", ".nvm/versions/node/*/bin/node"} {
		paths, err := filepath.Glob(filepath.Join(home, pattern))
		require.NoError(t, err)
		for _, path := range paths {
			real, err := filepath.EvalSymlinks(path)
			require.NoError(t, err)
			found = append(found, real)
		}
	}
	return found
}

func TestInterpretersRunInTheirSandboxes(t *testing.T) {
	onEachDriver(t, func(t *testing.T, d Driver) {
		var interpreters []string
		for _, name := range []string{"/usr/bin/node", "/usr/bin/python3"} {
			if path, err := exec.LookPath(name); err == nil {
				interpreters = append(interpreters, path)
			}
		}
		if d.OwnPaths() { // else those of root's home are not for others
			interpreters = append(interpreters, versionManaged(t)...)
		}
		require.NotEmpty(t, interpreters)
		for _, path := range interpreters {
			script := []string{"-c", "import ssl, json, os, sys; print(6 * 7)"}
			if filepath.Base(path) == "node" {
				script = []string{"-e", "require('tls').rootCertificates; console.log(6 * 7)"}
			}
			i := startSpec(t, d, Spec{Argv: append([]string{path}, script...), Mounts: InterpreterMounts(path),
				Limits: Limits{MemoryMB: 256, TmpMB: 8, Processes: 64, OpenFiles: 256, FileMB: 8}})
			require.Equal(t, "42", awaitLine(t, i.Stdout()), path)
			awaitDone(t, i)
			require.Zero(t, i.Exit().Code, path)
			require.NoError(t, i.Close())
		}
	})
}

package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheFolderOfADeadServerIsRemovedByTheNext(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dead, err := newOwnFolder("voltrun-test-")
	require.NoError(t, err)
	alive, err := newOwnFolder("voltrun-test-")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dead.path, "file"), nil, 0o600))
	require.NoError(t, dead.lock.Close())

	next, err := newOwnFolder("voltrun-test-")
	require.NoError(t, err)
	require.NoDirExists(t, dead.path)
	require.DirExists(t, alive.path)
	require.NoError(t, alive.close())
	require.NoError(t, next.close())
	require.NoDirExists(t, next.path)
}

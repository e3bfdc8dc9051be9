package privatepg

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRootLetsPostgresRunAsAnUnprivilegedUserAndKeepsItsSecrets(t *testing.T) {
	t.Parallel()
	asRoot(t)
	dir := openDir(t)
	secret := filepath.Join(dir, "jwt.secret")
	require.NoError(t, os.WriteFile(secret, []byte("s"), 0o600))
	s := start(t, Config{DataDir: dir})
	require.Contains(t, unprivileged, s.Info().Account)
	requireOwner(t, s.cluster.dir(), s.cluster.account.uid)
	requireOwner(t, filepath.Join(s.cluster.dir(), "base"), s.cluster.account.uid)
	requireOwner(t, secret, 0)
	requireOwner(t, dir, 0)
}

func TestRootCanKeepDataBelowAFolderThatIsClosedToOthers(t *testing.T) {
	t.Parallel()
	asRoot(t)
	needsNamespaces(t)
	closed := t.TempDir()
	require.NoError(t, os.Chmod(closed, 0o700))
	s := start(t, Config{DataDir: filepath.Join(closed, "data")})
	require.Contains(t, s.Info().Account, "root disguised as ")
	requireOwner(t, s.cluster.dir(), 0)
	require.Equal(t, "1", query(t, s.DSN(), "select 1"))
	stop(t, s)
	require.Equal(t, Restarted, start(t, Config{DataDir: s.cluster.dataDir}).Info().Kind)
}

func TestRootCanMoveDataIntoAFolderThatIsClosedToOthersAndBack(t *testing.T) {
	t.Parallel()
	asRoot(t)
	needsNamespaces(t)
	open, closed := filepath.Join(openDir(t), "data"), filepath.Join(t.TempDir(), "data")
	first := start(t, Config{DataDir: open})
	query(t, first.DSN(), "create table kept ()")
	stop(t, first)
	require.NoError(t, os.Rename(open, closed))
	second := start(t, Config{DataDir: closed})
	require.Equal(t, "0", query(t, second.DSN(), "select count(*) from kept"))
	requireOwner(t, second.cluster.dir(), 0)
	stop(t, second)
	require.NoError(t, os.Rename(closed, open))
	third := start(t, Config{DataDir: open})
	require.Equal(t, "0", query(t, third.DSN(), "select count(*) from kept"))
	requireOwner(t, filepath.Join(third.cluster.dir(), "PG_VERSION"), first.cluster.account.uid)
}

func TestOrdinaryUserRunsPostgresAsItself(t *testing.T) {
	t.Parallel()
	asRoot(t) // to become somebody else; run by an ordinary user, every other test shows the same
	nobody, ok := lookup("nobody")
	require.True(t, ok)
	dir := openDir(t)
	require.NoError(t, os.Chown(dir, nobody.uid, nobody.gid))
	for _, kind := range []StartKind{Initialised, Restarted} {
		h := startHelper(t, dir, uint32(nobody.uid))
		require.Empty(t, h.Error)
		require.Equal(t, kind, h.Info.Kind)
		require.Equal(t, "nobody", h.Info.Account)
		require.Equal(t, "1", query(t, h.DSN, "select 1"))
		h.stop(t)
	}
	s := start(t, Config{DataDir: dir})
	require.Equal(t, "nobody", s.Info().Account, "root leaves a user's cluster to the user")
}

func TestUserWithoutANameCanRunPostgresToo(t *testing.T) {
	t.Parallel()
	asRoot(t)
	needsNamespaces(t)
	const nameless = 54321
	dir := openDir(t)
	require.NoError(t, os.Chown(dir, nameless, nameless))
	for _, kind := range []StartKind{Initialised, Restarted} {
		h := startHelper(t, dir, nameless)
		require.Empty(t, h.Error)
		require.Equal(t, kind, h.Info.Kind)
		require.Equal(t, "1", query(t, h.DSN, "select 1"))
		h.stop(t)
	}
}

func TestAnotherUsersDataIsRefusedInWords(t *testing.T) {
	t.Parallel()
	asRoot(t)
	dir := openDir(t)
	stop(t, start(t, Config{DataDir: dir}))
	require.NoError(t, os.Chmod(filepath.Join(dir, "postgres.lock"), 0o666))
	h := startHelper(t, dir, 54321)
	require.Contains(t, h.Error, "belongs to another user")
}

func requireOwner(t *testing.T, path string, uid int) {
	t.Helper()
	owner, err := ownerOf(path)
	require.NoError(t, err)
	require.Equal(t, uid, owner.uid, path)
}

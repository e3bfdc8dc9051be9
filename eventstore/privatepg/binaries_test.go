package privatepg

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// nowhere is a source that has nothing and reaches nothing.
func nowhere(t *testing.T) source {
	return source{registry: "http://127.0.0.1:1", cacheDir: t.TempDir()}
}

// installFake puts programs into dir that say they are some version of Postgres.
func installFake(t *testing.T, dir, version string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	script := fmt.Sprintf("#!/bin/sh\necho 'postgres (PostgreSQL) %s (Test)'\n", version)
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
}

func TestNewestInstalledPostgresIsUsed(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for _, version := range []string{"9.6.24", "13.22", "16.2", "16.10", "15.18"} {
		installFake(t, filepath.Join(home, version, "bin"), version)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(home, "path"), 0o755))
	require.NoError(t, os.Symlink(filepath.Join(home, "16.10", "bin", "postgres"), filepath.Join(home, "path", "postgres")))
	find := finder{places: []string{filepath.Join(home, "*", "bin"), filepath.Join(home, "path")}, source: nowhere(t)}

	b, err := find.find(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, "16.10", b.version)
	require.Equal(t, filepath.Join(home, "16.10", "bin"), b.dir)

	b, err = find.find(t.Context(), 15)
	require.NoError(t, err)
	require.Equal(t, "15.18", b.version, "the one that made the cluster wins over newer ones")
}

func TestTooOldPostgresIsNotUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	installFake(t, dir, "13.22")
	_, err := finder{places: []string{dir}, source: nowhere(t)}.find(t.Context(), 0)
	require.ErrorContains(t, err, "no PostgreSQL was found")
	for _, way := range []string{"install PostgreSQL", "VOLTRUN_PG_BIN", "DATABASE_URL"} {
		require.ErrorContains(t, err, way)
	}
	_, err = finder{explicit: dir}.find(t.Context(), 0)
	require.ErrorContains(t, err, "needs 14 or newer")
}

func TestNamedFolderWinsAndMayBeTheInstallationsRoot(t *testing.T) {
	t.Parallel()
	home, other := t.TempDir(), t.TempDir()
	installFake(t, filepath.Join(home, "bin"), "14.1")
	installFake(t, other, "17.1")
	for _, named := range []string{home, filepath.Join(home, "bin")} {
		b, err := finder{explicit: named, places: []string{other}}.find(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, "14.1", b.version)
	}
	_, err := finder{explicit: t.TempDir(), places: []string{other}}.find(t.Context(), 0)
	require.ErrorContains(t, err, "VOLTRUN_PG_BIN names")
}

func TestClusterOfAnotherVersionIsNeverTouched(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := start(t, Config{DataDir: dir})
	query(t, s.DSN(), "create table kept as select 5 as n")
	stop(t, s)
	versionFile := filepath.Join(s.cluster.dir(), "PG_VERSION")
	original, err := os.ReadFile(versionFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(versionFile, []byte("12\n"), 0o600))

	_, err = Start(t.Context(), Config{DataDir: dir})
	require.ErrorContains(t, err, "was made by PostgreSQL 12")
	require.ErrorContains(t, err, "Nothing was changed")
	_, err = Start(t.Context(), Config{DataDir: dir, Binaries: s.Info().Binaries})
	require.ErrorContains(t, err, "was made by PostgreSQL 12")

	require.NoError(t, os.WriteFile(versionFile, original, 0o600))
	require.Equal(t, "5", query(t, start(t, Config{DataDir: dir}).DSN(), "select n from kept"))
}

func TestFolderWithUnknownContentIsNeverTouched(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"PG_VERSION": "eighteen", "base": "something"} {
		dir := openDir(t)
		file := filepath.Join(dir, "postgres", name)
		require.NoError(t, os.Mkdir(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := Start(t.Context(), Config{DataDir: dir})
		require.ErrorContains(t, err, "othing was changed")
		kept, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, content, string(kept))
	}
}

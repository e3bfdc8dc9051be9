package privatepg

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// packageOf is an npm package with these files, all executable.
func packageOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var archive bytes.Buffer
	zipped := gzip.NewWriter(&archive)
	writer := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(files[name]))}
		require.NoError(t, writer.WriteHeader(header))
		_, err := writer.Write([]byte(files[name]))
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	require.NoError(t, zipped.Close())
	return archive.Bytes()
}

func TestUnpackedPackageHasItsLinksAndNothingForBuilding(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "postgres")
	archive := packageOf(t, map[string]string{
		"package/native/bin/postgres":                 "program",
		"package/native/lib/libpq.so.5.18":            "library",
		"package/native/lib/libpq.a":                  "for the linker",
		"package/native/lib/postgresql/pgxs/Makefile": "for make",
		"package/native/include/libpq-fe.h":           "for the compiler",
		"package/native/pg-symlinks.json":             `[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`,
		"package/README.md":                           "for people",
	})
	require.NoError(t, unpack(bytes.NewReader(archive), dir))

	library, err := os.ReadFile(filepath.Join(dir, "lib", "libpq.so.5"))
	require.NoError(t, err)
	require.Equal(t, "library", string(library))
	info, err := os.Stat(filepath.Join(dir, "bin", "postgres"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	for _, absent := range []string{"lib/libpq.a", "lib/postgresql/pgxs", "include", "README.md"} {
		_, err := os.Lstat(filepath.Join(dir, absent))
		require.ErrorIs(t, err, os.ErrNotExist, absent)
	}
}

func TestPackageCannotWriteOutsideOfItsFolder(t *testing.T) {
	t.Parallel()
	links := map[string]string{
		"link outside":      `[{"source":"native/lib/a","target":"native/../../evil"}]`,
		"file through link": `[{"source":"../../..","target":"native/lib/up"},{"source":"native/lib/a","target":"native/lib/up/evil"}]`,
		"absolute link":     `[{"source":"native/lib/a","target":"/tmp/privatepg-evil"}]`,
	}
	for name, list := range links {
		parent := t.TempDir()
		archive := packageOf(t, map[string]string{
			"package/native/lib/a": "a", "package/native/../../evil": "evil", "package/native/pg-symlinks.json": list,
		})
		require.NoError(t, os.Mkdir(filepath.Join(parent, "deep"), 0o755))
		require.Error(t, unpack(bytes.NewReader(archive), filepath.Join(parent, "deep", "postgres")), name)
		_, err := os.Lstat(filepath.Join(parent, "evil"))
		require.ErrorIs(t, err, os.ErrNotExist, name)
		require.NoFileExists(t, filepath.Join(parent, "deep", "evil"), name)
	}
}

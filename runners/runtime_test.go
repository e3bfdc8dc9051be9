package runners

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func TestThisHostServesBothLanguages(t *testing.T) {
	t.Parallel()
	r := runner.config.Runtimes
	require.Subset(t, domain.Runtimes(), r.Available())
	require.Contains(t, r.Available(), "nodejs")
	require.Contains(t, r.Available(), "python")
	for _, word := range r.Available() {
		interpreter, err := r.Resolve(word)
		require.NoError(t, err)
		require.NotContains(t, interpreter.Path, "shims")
		require.NotEmpty(t, interpreter.Version)
	}
}

func TestTheBareWordIsTheNewestAndTheSystemsOwnComesFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, 0o755))
		return path
	}
	found := []*Interpreter{
		{Path: "/usr/bin/env", Version: "3.11.2", Python: true},
		{Path: at("p3117"), Version: "3.11.7", Python: true},
		{Path: at("p313"), Version: "3.13.0", Python: true},
		{Path: at("p314"), Version: "3.14.1", Python: true},
		{Path: at("n18"), Version: "18.19.1"},
		{Path: at("n20"), Version: "20.9.0"},
		{Path: at("n2010"), Version: "20.10.0"},
	}
	for range 2 {
		r := newRuntimes(slices.Clone(found))
		require.Equal(t, []string{"nodejs", "nodejs18", "nodejs20", "python", "python3.11", "python3.13"}, r.Available())
		for word, version := range map[string]string{
			"python": "3.14.1", "python3.13": "3.13.0", "python3.11": "3.11.2", "nodejs": "20.10.0", "nodejs20": "20.10.0", "nodejs18": "18.19.1",
		} {
			interpreter, err := r.Resolve(word)
			require.NoError(t, err)
			require.Equal(t, version, interpreter.Version, word)
		}
		slices.Reverse(found)
	}
}

func TestARuntimeThatWasRemovedIsToldSo(t *testing.T) {
	t.Parallel()
	r := newRuntimes([]*Interpreter{{Path: filepath.Join(t.TempDir(), "gone"), Version: "20.1.0"}})
	_, err := r.Resolve("nodejs20")
	require.True(t, domain.IsCode(err, domain.Unavailable))
	require.ErrorContains(t, err, `The runtime "nodejs20" was removed from this host.`)
}

func TestTooOldInterpretersDoNotServe(t *testing.T) {
	t.Parallel()
	for _, i := range []Interpreter{{Version: "16.20.0"}, {Version: "2.7.18", Python: true}, {Version: "3.8.18", Python: true}, {Version: ""}} {
		require.False(t, i.supported(), i.Version)
	}
}

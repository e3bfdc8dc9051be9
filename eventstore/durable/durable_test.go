package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/durable"
)

func text(content string) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.WriteString(content)
		return err
	}
}

func TestAFileIsReplacedAsAWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	read := func() string {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(content)
	}
	require.NoError(t, durable.WriteFile(path, text("one")))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, durable.WriteNew(path, text("another")))
	require.Equal(t, "one", read(), "what is there stays")
	require.NoError(t, durable.WriteFile(path, text("two")))
	require.Equal(t, "two", read())

	full := errors.New("the disk is full")
	for _, write := range []func(string, func(*os.File) error) error{durable.WriteFile, durable.WriteNew} {
		require.ErrorIs(t, write(path, func(f *os.File) error { return errors.Join(text("thr")(f), full) }), full)
		require.Equal(t, "two", read())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no draft is left")
}

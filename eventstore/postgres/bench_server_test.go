package postgres_test

import (
	"context"
	"log/slog"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/privatepg"
)

// memoryNeeded is what the benchmarks' server may write, with its write-ahead log.
const memoryNeeded = 4 << 30

// benchServer starts a Postgres of the benchmark's own and returns it. Its files are in memory when there is room: how
// fast this machine's disk flushes at the moment must not decide what the log costs. BenchmarkSlowFlush adds to that.
func benchServer(b *testing.B, binaries string) *privatepg.Server {
	b.Helper()
	server, err := privatepg.Start(b.Context(), privatepg.Config{
		DataDir: benchDir(b), Binaries: binaries, Logger: slog.New(slog.NewTextHandler(b.Output(), nil)),
		Settings: map[string]string{"max_connections": "300"},
	})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, server.Stop(context.Background())) })
	return server
}

// benchDir is a folder that the account can pass through that Postgres runs as.
func benchDir(b *testing.B) string {
	b.Helper()
	var stat syscall.Statfs_t
	parent := "/dev/shm"
	if err := syscall.Statfs(parent, &stat); err != nil || stat.Bavail*uint64(stat.Bsize) < memoryNeeded {
		parent = ""
		b.Log("there is no room in /dev/shm: the server writes to a disk, whose flushes count in what follows")
	}
	dir, err := os.MkdirTemp(parent, "voltrun-bench-")
	require.NoError(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(b, os.Chmod(dir, 0o755))
	return dir
}

package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/privatepg"
)

// goodDisk is how long a disk takes for a flush that one keeps a database on.
const goodDisk = 30 * time.Microsecond

// memoryNeeded is what a benchmark's server may write, with its write-ahead log.
const memoryNeeded = 4 << 30

// canEmulateDisk tells whether a server can have a disk of its own kind: files in memory, and flushes that take a while.
func canEmulateDisk() bool {
	var stat syscall.Statfs_t
	_, err := exec.LookPath("gcc")
	return err == nil && syscall.Statfs("/dev/shm", &stat) == nil && stat.Bavail*uint64(stat.Bsize) >= memoryNeeded
}

// benchServer starts a Postgres of the benchmark's own whose disk takes so long for a flush, and returns the way to it.
// What this machine's disk happens to take at the moment must not decide what the log costs.
func benchServer(b *testing.B, flush time.Duration) (dsn string) {
	b.Helper()
	config := privatepg.Config{
		Logger:   slog.New(slog.NewTextHandler(b.Output(), nil)),
		Settings: map[string]string{"max_connections": "300"},
	}
	if canEmulateDisk() {
		config.DataDir, config.Binaries = benchDir(b, "/dev/shm"), slowBinaries(b, flush)
	} else {
		config.DataDir = benchDir(b, "")
		b.Log("without gcc or without 4 GB in /dev/shm, the flushes of this machine's disk count in what follows")
	}
	server, err := privatepg.Start(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, server.Stop(context.Background())) })
	if busy := busyProcessors(300 * time.Millisecond); busy > 0.1 {
		b.Logf("other processes take %.0f %% of the processors: what follows says little", 100*busy)
	}
	return server.DSN()
}

// busyProcessors tells which part of the processors' time is used, while the benchmark itself does nothing.
func busyProcessors(during time.Duration) float64 {
	idleBefore, before := processorTime()
	time.Sleep(during)
	idle, total := processorTime()
	if total == before {
		return 0 // not a Linux
	}
	return 1 - (idle-idleBefore)/(total-before)
}

// processorTime reads how long all processors have been idle since the start, and in all.
func processorTime() (idle, total float64) {
	stat, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(stat), "\n")
	for i, field := range strings.Fields(line) {
		ticks, _ := strconv.ParseFloat(field, 64) // 0 for the line's name
		total += ticks
		if i == 4 || i == 5 { // idle, and idle because of a disk
			idle += ticks
		}
	}
	return idle, total
}

// benchDir is a folder that the account can pass through that Postgres runs as.
func benchDir(b *testing.B, parent string) string {
	b.Helper()
	dir, err := os.MkdirTemp(parent, "voltrun-bench-")
	require.NoError(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(b, os.Chmod(dir, 0o755))
	return dir
}

// slowFlush stands before the C library. A sleep ends a microsecond late at most instead of the usual fifty, and a signal
// does not end it.
const slowFlush = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/prctl.h>
#include <time.h>

__attribute__((constructor)) static void wake_in_time(void) { prctl(PR_SET_TIMERSLACK, 1000UL); }

int fdatasync(int fd) {
	static int (*flush)(int);
	if (!flush)
		flush = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	struct timespec end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += FLUSH_NANOSECONDS;
	if (end.tv_nsec >= 1000000000) {
		end.tv_sec++;
		end.tv_nsec -= 1000000000;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, 0))
		;
	return flush(fd);
}
`

// slowBinaries is a folder with the programs of Postgres, which take so long for each flush of the write-ahead log.
func slowBinaries(b *testing.B, flush time.Duration) string {
	b.Helper()
	dir, binaries := benchDir(b, ""), pgtest.Server(b).Info().Binaries
	source, library := filepath.Join(dir, "slowflush.c"), filepath.Join(dir, "slowflush.so")
	require.NoError(b, os.WriteFile(source, []byte(slowFlush), 0o644))
	output, err := exec.Command("gcc", "-O2", "-shared", "-fPIC", fmt.Sprintf("-DFLUSH_NANOSECONDS=%d", flush.Nanoseconds()),
		"-o", library, source, "-ldl").CombinedOutput()
	require.NoError(b, err, "%s", output)
	for _, program := range []string{"postgres", "initdb"} {
		script := fmt.Sprintf("#!/bin/sh\nLD_PRELOAD=%s exec %s \"$@\"\n", library, filepath.Join(binaries, program))
		require.NoError(b, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755))
	}
	return dir
}

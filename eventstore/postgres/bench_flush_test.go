package postgres_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// addedFlush is what slowFlush adds to every flush of the write-ahead log.
const addedFlush = time.Millisecond

// slowFlush stands before the C library in a Postgres whose disk is to be slow.
const slowFlush = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int fdatasync(int fd) {
	static int (*flush)(int);
	if (!flush)
		flush = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	struct timespec end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += 1000000;
	if (end.tv_nsec >= 1000000000) {
		end.tv_sec++;
		end.tv_nsec -= 1000000000;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, 0)) // a signal may end it too soon
		;
	return flush(fd);
}
`

// BenchmarkSlowFlush appends to a log whose disk takes a millisecond longer for each flush. A batch of half of the writers
// waits for one flush, whatever else it costs: that is the most that can be had, and what is compared with.
func BenchmarkSlowFlush(b *testing.B) {
	const writers = 128
	fast := benchServer(b, "")
	slow := benchServer(b, slowBinaries(b, fast.Info().Binaries))
	log := &contender{name: "append 1", writers: writers, events: 1, call: appendTo(openStore(b, fast.DSN()), 1)}
	slowed := &contender{name: "append 1, a millisecond more a flush", writers: writers, events: 1, call: appendTo(openStore(b, slow.DSN()), 1)}
	alternate(b, log, slowed)

	const batch = writers / 2
	ours := seconds(batch/log.rate()) + addedFlush
	reference := addedFlush + 100*time.Microsecond + batch*20*time.Microsecond + 300*time.Microsecond
	b.Logf("a batch of %d should take %s by what it takes without, %s by the reference", batch, ours.Round(time.Microsecond), reference)
	requireRatio(b, "slow-flush/formula", slowed.rate(), batch/max(ours, reference).Seconds(), leastOfSlowFlush)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// slowBinaries is a folder with the programs of Postgres, on a slow disk.
func slowBinaries(b *testing.B, binaries string) string {
	b.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		b.Skip("gcc is needed to slow the flushes down: apt-get install gcc libc6-dev")
	}
	dir := benchDir(b)
	source, library := filepath.Join(dir, "slowflush.c"), filepath.Join(dir, "slowflush.so")
	require.NoError(b, os.WriteFile(source, []byte(slowFlush), 0o644))
	output, err := exec.Command("gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl").CombinedOutput()
	require.NoError(b, err, "%s", output)
	for _, program := range []string{"postgres", "initdb"} {
		script := fmt.Sprintf("#!/bin/sh\nLD_PRELOAD=%s exec %s \"$@\"\n", library, filepath.Join(binaries, program))
		require.NoError(b, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755))
	}
	return dir
}

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// idleFor is longer than the fallback timers: 5 s of the notifier, 10 s of the rescuer.
const idleFor = 11 * time.Second

// Nobody polls: an idle server asks the database only when a fallback timer runs out.
func TestAnIdleServerAsksItsDatabaseNothingButForItsFallbackTimers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	s.register(t) // something has happened, and the projections have followed it
	s.awaitSigned(t)
	conn, err := pgx.Connect(context.Background(), fmt.Sprintf("host=%s port=%s user=voltrun dbname=postgres", s.socket(t)...))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), "alter system set log_statement = 'all'")
	require.NoError(t, err)
	_, err = conn.Exec(context.Background(), "select pg_reload_conf()")
	require.NoError(t, err)
	time.Sleep(idleFor)

	log, err := os.ReadFile(filepath.Join(s.dataDir, "postgres.log"))
	require.NoError(t, err)
	statements := 0
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "statement: ") || strings.Contains(line, "execute ") {
			statements++
		}
	}
	require.LessOrEqual(t, statements, 5, "%s", log)
	require.Positive(t, statements, "the statements are in the log:\n%s", log)
}

// socket is where the private Postgres listens: folder and port.
func (s *server) socket(t testing.TB) []any {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dataDir, "postgres", "postmaster.pid"))
	require.NoError(t, err)
	lines := strings.Split(string(content), "\n")
	return []any{lines[4], lines[3]} // see "Lock file contents" in Postgres's miscadmin.h
}

// BenchmarkIdleServer tells how much of a core an idle server takes, its Postgres included.
func BenchmarkIdleServer(b *testing.B) {
	s := newServer(b)
	s.start(b)
	postgres, err := s.postgresPID()
	require.NoError(b, err)
	for b.Loop() {
		before := cpuTime(b, s.process.Process.Pid) + cpuTime(b, postgres)
		time.Sleep(idleFor)
		used := cpuTime(b, s.process.Process.Pid) + cpuTime(b, postgres) - before
		b.ReportMetric(100*used.Seconds()/idleFor.Seconds(), "%core")
	}
}

// cpuTime is what a process and its children have used.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	total := time.Duration(0)
	pids := []string{strconv.Itoa(pid)}
	children, _ := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() // fails when there are none
	for _, p := range append(pids, strings.Fields(string(children))...) {
		stat, err := os.ReadFile(filepath.Join("/proc", p, "stat"))
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		user, userErr := strconv.Atoi(fields[11])
		system, systemErr := strconv.Atoi(fields[12])
		require.NoError(b, userErr)
		require.NoError(b, systemErr)
		total += time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
	}
	return total
}

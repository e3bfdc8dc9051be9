package postgres_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/postgres"
)

// appenderVariable names the database to a copy of the test binary that is to append to it.
const appenderVariable = "VOLTRUN_BENCH_APPENDER"

// TestMain makes this binary an appender when a benchmark has started it as one.
func TestMain(m *testing.M) {
	if dsn := os.Getenv(appenderVariable); dsn != "" {
		if err := appendOnCommand(dsn, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// appendOnCommand reads numbers of writers, one a line, lets so many append for a round, and answers each line with how
// many events they have appended.
func appendOnCommand(dsn string, commands io.Reader, answers io.Writer) error {
	store, err := postgres.Open(context.Background(), dsn, uuid.New(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	for lines := bufio.NewScanner(commands); lines.Scan(); {
		writers, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		c := &contender{writers: writers, events: 1, call: appendTo(store, 1)}
		if err := c.round(); err != nil {
			return err
		}
		fmt.Fprintln(answers, int(c.rates[0]))
	}
	return nil
}

// appender is a process that appends.
type appender struct {
	commands io.Writer
	answers  *bufio.Scanner
}

func startAppender(b *testing.B, dsn string) *appender {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), appenderVariable+"="+dsn)
	cmd.Stderr = b.Output()
	commands, err := cmd.StdinPipe()
	require.NoError(b, err)
	answers, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = commands.Close()
		require.NoError(b, cmd.Wait())
	})
	return &appender{commands, bufio.NewScanner(answers)}
}

// appendAtOnce lets processes append together for a round and returns how many events a second they append in all.
func appendAtOnce(b *testing.B, writers int, processes ...*appender) (rate float64) {
	b.Helper()
	for _, p := range processes {
		fmt.Fprintln(p.commands, writers)
	}
	for _, p := range processes {
		require.True(b, p.answers.Scan(), "an appender has ended")
		mine, err := strconv.Atoi(p.answers.Text())
		require.NoError(b, err)
		rate += float64(mine)
	}
	return rate
}

// BenchmarkProcesses compares three processes on one database with one that has as many writers.
func BenchmarkProcesses(b *testing.B) {
	dsn := benchServer(b, goodDisk)
	openStore(b, dsn) // which also migrates the database
	processes := []*appender{startAppender(b, dsn), startAppender(b, dsn), startAppender(b, dsn)}
	const writers = 126
	var one, three []float64
	for b.Loop() {
		for range benchRounds {
			one = append(one, appendAtOnce(b, writers, processes[0]))
			three = append(three, appendAtOnce(b, writers/3, processes...))
		}
	}
	b.Logf("one process: %.0f events/s, three: %.0f", slices.Max(one), slices.Max(three))
	requireRatio(b, "three/one", slices.Max(three), slices.Max(one), leastOfThreeProcesses)
}

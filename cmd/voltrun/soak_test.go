package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// soakVariable is for how long a server is soaked, as in "10m".
const (
	soakVariable = "VOLTRUN_SOAK"
	soakShortly  = 15 * time.Second
	soakers      = 8   // clients
	soaking      = 200 // executions that wait, for each client
)

// soaked are functions that go well, fail, take time, and leave things behind.
var soaked = []struct{ runtime, code string }{
	{"nodejs", "exports.handler = async (e) => { console.log('n', e.n); return e.n }"},
	{"python", "def handler(e):\n    print('n', e['n'])\n    return e['n']"},
	{"nodejs", printing},
	{"nodejs", "exports.handler = (e) => { if (e.n % 3 === 0) throw new Error('third'); setTimeout(() => {}, 1000); return 1 }"},
	{"python", "import os, subprocess\ndef handler(e):\n    if e['n'] % 50 == 0:\n        subprocess.Popen(['sleep', '600'], start_new_session=True)\n    if e['n'] % 31 == 0:\n        os._exit(3)\n    return 1"},
}

// TestASaturatedServerLosesAndLeaksNothing kills at random what a server works with, and the server. make soak does it for
// ten minutes.
func TestASaturatedServerLosesAndLeaksNothing(t *testing.T) {
	s := &soakedServer{server: newServer(t, "VOLTRUN_SLOTS=8", "TMPDIR="+publicTempDir(t)), groups: map[string]bool{}}
	s.start(t)
	c := s.register(t)
	functions := make([]uuid.UUID, len(soaked))
	for i, f := range soaked {
		functions[i] = c.createFunction(t, f.runtime, f.code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soakTime(t))
	defer cancel()
	var load sync.WaitGroup
	accepted := make([][]uuid.UUID, soakers)
	for i := range soakers {
		load.Go(func() { accepted[i] = c.soak(ctx, functions) })
	}
	s.harm(t, ctx)
	load.Wait()
	c.awaitNothingPending(t, 10*time.Minute)
	s.requireEnded(t, accepted)
	s.requireNoLeak(t)
}

func soakTime(t *testing.T) time.Duration {
	told := os.Getenv(soakVariable)
	if told == "" {
		return soakShortly
	}
	d, err := time.ParseDuration(told)
	require.NoError(t, err)
	return d
}

// soak keeps asking, and waits now and then, so that the queue does not grow for ever. It returns what was accepted.
func (c client) soak(ctx context.Context, functions []uuid.UUID) (accepted []uuid.UUID) {
	for n := 0; ctx.Err() == nil; n++ {
		if id, err := c.execute(ctx, functions[rand.IntN(len(functions))], map[string]int{"n": n}); err == nil {
			accepted = append(accepted, id)
		}
		for n%soaking == 0 && ctx.Err() == nil {
			if left, err := c.pending(ctx); err == nil && left < soaking {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return accepted
}

// pending counts what has not ended, up to a page of each.
func (c client) pending(ctx context.Context) (int, error) {
	n := 0
	for _, status := range []string{"pending", "running"} {
		var page []execution
		if _, err := c.call(ctx, "GET", "/api/executions?limit=200&status="+status, nil, &page); err != nil {
			return 0, err
		}
		n += len(page)
	}
	return n, nil
}

func (c client) awaitNothingPending(t *testing.T, patience time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool { n, err := c.pending(t.Context()); return err == nil && n == 0 }, patience, 100*time.Millisecond)
}

// soakedServer is a server with what has to be looked for when it is over.
type soakedServer struct {
	*server
	groups map[string]bool // the names of its control groups' folders, over its restarts
	harms  struct{ functions, connections, servers int }
	memory []int // MB, now and then since the last start
}

// harm kills until the time is over: a function's process every now and then, less often the database's connections, and
// the server at least twice.
func (s *soakedServer) harm(t *testing.T, ctx context.Context) {
	until, _ := ctx.Deadline()
	between := max(5*time.Second, time.Until(until)/20)
	next := time.Now().Add(between)
	for step := 0; ctx.Err() == nil; step++ {
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
		switch {
		case time.Now().After(next) && time.Until(until) > between/2:
			s.crash(t)
			next = time.Now().Add(between)
		case step%10 == 9:
			s.cutConnections(t)
			s.memory = append(s.memory, residentMB(t, s.process.Process.Pid))
		default:
			s.killFunction()
		}
	}
}

func (s *soakedServer) killFunction() {
	processes := functionsOf(s.process.Process.Pid)
	if len(processes) == 0 {
		return
	}
	s.harms.functions++
	victim := processes[rand.IntN(len(processes))]
	s.noteGroup(victim)
	_ = syscall.Kill(victim, syscall.SIGKILL) // it may be over
}

func (s *soakedServer) noteGroup(pid int) {
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for _, part := range strings.FieldsFunc(string(list), func(c rune) bool { return c == '/' || c == '\n' }) {
		if strings.HasPrefix(part, "voltrun-") {
			s.groups[part] = true
		}
	}
}

func (s *soakedServer) cutConnections(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=voltrun dbname=postgres", s.socket(t)...))
	if err != nil {
		return // too many are open
	}
	defer conn.Close(context.Background())
	_, _ = conn.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend' and random() < 0.5")
	s.harms.connections++
}

// crash is kill -9. Of what ran for the server nothing may be left when it has started again; until then, what was frozen
// stays so.
func (s *soakedServer) crash(t *testing.T) {
	processes := functionsOf(s.process.Process.Pid)
	s.kill(t)
	s.start(t)
	require.Eventually(t, func() bool { return !slices.ContainsFunc(processes, isFunction) }, 10*time.Second, 10*time.Millisecond,
		"functions of the server before are left")
	s.harms.servers++
	s.memory = nil
}

// functionsOf finds the interpreters below a server.
func functionsOf(server int) (found []int) {
	parents := map[int]int{}
	folders, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range folders {
		stat, _ := os.ReadFile(path)
		if at := bytes.LastIndexByte(stat, ')'); at > 0 {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			parents[pid], _ = strconv.Atoi(strings.Fields(string(stat[at+1:]))[1])
		}
	}
	for pid := range parents {
		for above := parents[pid]; above > 1; above = parents[above] {
			if above == server && isFunction(pid) {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

func isFunction(pid int) bool {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return bytes.Contains(line, []byte("/voltrun/node.cjs\x00")) || bytes.Contains(line, []byte("/voltrun/python.py\x00"))
}

func residentMB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(status))[1])
	require.NoError(t, err)
	return pages * os.Getpagesize() >> 20
}

// requireEnded checks in the log that what was accepted has ended, once.
func (s *soakedServer) requireEnded(t *testing.T, accepted [][]uuid.UUID) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=voltrun dbname=postgres", s.socket(t)...))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), `select stream_id, type from events where type in ('execution.requested', 'execution.completed', 'execution.failed')`)
	require.NoError(t, err)
	ends, counts := map[uuid.UUID]int{}, map[string]int{}
	for rows.Next() {
		var id uuid.UUID
		var kind string
		require.NoError(t, rows.Scan(&id, &kind))
		counts[kind]++
		if kind != "execution.requested" {
			ends[id]++
		}
	}
	require.NoError(t, rows.Err())
	total := 0
	for _, ids := range accepted {
		total += len(ids)
		for _, id := range ids {
			require.Equal(t, 1, ends[id], "execution %s has one end", id)
		}
	}
	t.Logf("%d accepted; %v; killed: %+v", total, counts, s.harms)
	require.Equal(t, counts["execution.requested"], counts["execution.completed"]+counts["execution.failed"])
	require.Len(t, ends, counts["execution.requested"])
	require.Positive(t, counts["execution.completed"])
}

// requireNoLeak looks at the server when it has nothing to do, ends it, and looks for what is left.
func (s *soakedServer) requireNoLeak(t *testing.T) {
	t.Helper()
	pid := s.process.Process.Pid
	functions := functionsOf(pid)
	for _, f := range functions {
		s.noteGroup(f)
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	memory := residentMB(t, pid)
	t.Logf("at the end: %d processes of functions, %d descriptors, %d MB; before: %v MB", len(functions), len(open), memory, s.memory)
	require.Less(t, len(open), 100+25*len(functions), "descriptors")
	if len(s.memory) > 0 {
		require.Less(t, memory, 100+2*s.memory[0], "MB, which were %v before", s.memory)
	}
	s.requireFewGoroutines(t, len(functions))
	s.start(t) // removes what the one before has left
	require.NoError(t, s.stop(t))
	for _, variable := range s.env {
		if folder, ok := strings.CutPrefix(variable, "TMPDIR="); ok {
			left, err := os.ReadDir(folder)
			require.NoError(t, err)
			require.Empty(t, left, "temporary files")
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		require.False(t, err == nil && s.groups[entry.Name()], "the control group %s is left", path)
		return nil // those of others come and go
	})
}

// requireFewGoroutines ends the server with a signal by which it shows them.
func (s *soakedServer) requireFewGoroutines(t *testing.T, functions int) {
	t.Helper()
	require.NoError(t, s.process.Process.Signal(syscall.SIGQUIT))
	<-s.exited
	s.process = nil
	goroutines := strings.Count(s.output.String(), "\ngoroutine ")
	t.Logf("%d goroutines", goroutines)
	require.Positive(t, goroutines)
	require.Less(t, goroutines, 100+10*functions, "goroutines")
}

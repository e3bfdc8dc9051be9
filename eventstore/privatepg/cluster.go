package privatepg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// superuser is the one user of the cluster. Whoever can reach the socket is it, and only our own user can.
const superuser = "voltrun"

// cluster is the Postgres cluster in a data folder.
type cluster struct {
	dataDir   string
	socketDir string
	binaries  binaries
	account   account
}

// dir is the cluster's own folder, PGDATA.
func (c cluster) dir() string { return filepath.Join(c.dataDir, "postgres") }

// logFile is what Postgres writes its log to.
func (c cluster) logFile() string { return filepath.Join(c.dataDir, "postgres.log") }

// open gets everything ready for Postgres to start, and tells whether it had to make the cluster.
func (c *cluster) open(ctx context.Context, cfg Config) (initialised bool, err error) {
	c.dataDir = cfg.DataDir
	major, err := c.madeBy()
	if err != nil {
		return false, err
	}
	find := finder{
		explicit: cfg.Binaries, places: searchedPlaces(), dataDir: cfg.DataDir,
		source: source{registry: cfg.Registry, cacheDir: cfg.CacheDir},
	}
	if c.binaries, err = find.find(ctx, major); err != nil {
		return false, err
	}
	if c.account, err = c.chooseAccount(ctx); err != nil {
		return false, err
	}
	if c.socketDir, err = makeSocketDir(c.dataDir, c.account); err != nil {
		return false, err
	}
	if major != 0 {
		return false, c.handOver(c.dir())
	}
	return true, c.initialise(ctx)
}

// madeBy returns the major version of Postgres that made the cluster, 0 when there is none.
func (c cluster) madeBy() (int, error) {
	content, err := os.ReadFile(filepath.Join(c.dir(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, c.checkAbsent()
	}
	if errors.Is(err, fs.ErrPermission) {
		return 0, fmt.Errorf("the Postgres data in %s belongs to another user; run VoltRun as that user or as root, or set VOLTRUN_DATA to another folder", c.dir())
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("%s says version %q, which no supported PostgreSQL writes; nothing was changed",
			filepath.Join(c.dir(), "PG_VERSION"), strings.TrimSpace(string(content)))
	}
	return major, nil
}

// checkAbsent makes sure that there is nothing where the cluster is going to be: a folder with content but without a
// version is damaged data, and somebody may want to repair it.
func (c cluster) checkAbsent() error {
	entries, err := os.ReadDir(c.dir())
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty, but no Postgres data folder either (it has no PG_VERSION); "+
			"restore it or move it away. Nothing was changed", c.dir())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// chooseAccount returns who this cluster's Postgres runs as.
func (c cluster) chooseAccount(ctx context.Context) (account, error) {
	owner, err := ownerOf(c.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return chooseAccount(ctx, c.binaries, c.dataDir, nil)
	}
	if err != nil {
		return account{}, err
	}
	return chooseAccount(ctx, c.binaries, c.dataDir, &owner)
}

// handOver makes the account the owner of everything in dir. The folder itself comes last: where it belongs to the
// account, everything in it does too.
func (c cluster) handOver(dir string) error {
	owner, err := ownerOf(dir)
	if err != nil || owner.uid == c.account.uid {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return os.Lchown(path, c.account.uid, c.account.gid)
	})
	if err != nil {
		return fmt.Errorf("give the Postgres data to %s: %w", c.account.name, err)
	}
	return os.Chown(dir, c.account.uid, c.account.gid)
}

// initialise makes the cluster. It appears complete and durable, or not at all.
func (c cluster) initialise(ctx context.Context) error {
	leftovers, _ := filepath.Glob(filepath.Join(c.dataDir, ".initdb-*")) // of a start that was killed here
	for _, leftover := range leftovers {
		_ = os.RemoveAll(leftover)
	}
	dir, err := os.MkdirTemp(c.dataDir, ".initdb-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := c.handOver(dir); err != nil {
		return err
	}
	if err := c.initdb(ctx, dir); err != nil {
		return err
	}
	if err := syncFilesystem(dir); err != nil {
		return err
	}
	if err := os.Rename(dir, c.dir()); err != nil {
		return err
	}
	return syncFilesystem(c.dataDir)
}

// initdb runs initdb for dir, with the first kind of locale that this system has. All of them sort by code point, so no
// index depends on the system's own rules.
func (c cluster) initdb(ctx context.Context, dir string) error {
	locales := [][]string{{"--locale=C", "--lc-ctype=C.UTF-8"}, {"--locale=C"}}
	if c.binaries.major >= 17 {
		locales = [][]string{{"--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"}}
	}
	var err error
	for _, locale := range locales {
		var output string
		output, err = c.runInitdb(ctx, dir, locale)
		if err == nil || !strings.Contains(output, "locale") {
			break
		}
	}
	return err
}

func (c cluster) runInitdb(ctx context.Context, dir string, locale []string) (output string, err error) {
	initialiser, err := c.account.initialiser()
	if err != nil {
		return "", err
	}
	args := append([]string{"-D", dir, "-U", superuser, "-A", "trust", "-E", "UTF8", "--no-instructions"}, locale...)
	args = append(args, initdbSync...)
	cmd := exec.CommandContext(ctx, c.binaries.program("initdb"), args...)
	initialiser.prepare(cmd)
	cmd.Dir = c.dataDir
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children too
	cmd.WaitDelay = 5 * time.Second
	dieWithParent(cmd.SysProcAttr, syscall.SIGTERM)
	runtime.LockOSThread() // the parent that it dies with is this thread
	defer runtime.UnlockOSThread()
	combined, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, fs.ErrPermission) && initialiser.name != c.account.name:
		err = fmt.Errorf("user id %d has no name, which initdb needs, and this system does not let it borrow one; "+
			"add it to /etc/passwd, or set DATABASE_URL", c.account.uid)
	case err != nil:
		err = fmt.Errorf("make the Postgres cluster as %s: initdb: %w: %s", initialiser.name, err, lastLines(string(combined), 5))
	}
	return string(combined), err
}

package privatepg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockPatience is how long a start waits for the lock of the data folder: a process that was just killed may still be
// on its way out.
const lockPatience = 500 * time.Millisecond

// inUseError says that another process has the data folder.
type inUseError struct {
	dataDir string
	pid     int // 0 when unknown
}

func (e *inUseError) Error() string {
	holder := "another VoltRun"
	if e.pid != 0 {
		holder = fmt.Sprintf("another VoltRun (process %d)", e.pid)
	}
	return fmt.Sprintf("%s is using the data folder %s; stop it first, or give this one a folder of its own with VOLTRUN_DATA",
		holder, e.dataDir)
}

// IsInUse tells whether a start failed because another process has a server on the same data folder.
func IsInUse(err error) bool {
	var inUse *inUseError
	return errors.As(err, &inUse)
}

// lockPath is the file whose lock whoever has the data folder holds.
func lockPath(dataDir string) string { return filepath.Join(dataDir, "postgres.lock") }

// lockDataDir takes the data folder for this process. The lock ends with the file being closed, at the latest with the
// process. Go opens files close-on-exec, so no child can keep it.
func lockDataDir(ctx context.Context, dataDir string) (*os.File, error) {
	path := lockPath(dataDir)
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	file, err := lockFile(ctx, path)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, &inUseError{dataDir: dataDir, pid: holder(path)}
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return file, nil
}

// lockFile takes the lock of the file at path and writes this process's id into it. The error is EWOULDBLOCK when ctx
// ends while somebody else holds the lock.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	for errors.Is(err, syscall.EWOULDBLOCK) && sleep(ctx, 10*time.Millisecond) == nil {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		err = writePID(file)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// writePID makes this process's id the content of file.
func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(file, os.Getpid())
	return err
}

// holder reads who holds the lock of the file at path, 0 when that cannot be told.
func holder(path string) int {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(content)))
	return pid
}

// sleep waits for d, or answers ctx's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

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

const (
	// lockPatience is how long a start waits for the lock of the data folder while a server has it: one that was just killed
	// may still be on its way out.
	lockPatience = 500 * time.Millisecond

	lockInterval = 10 * time.Millisecond // between attempts
)

// Holder is a process that has the data folder.
type Holder struct {
	PID     int    // 0 when unknown
	Command string // Config.Command; empty: a server
}

// String says who it is, for people.
func (h Holder) String() string {
	name := h.Command
	if name == "" {
		name = "another VoltRun"
	}
	if h.PID == 0 {
		return name
	}
	return fmt.Sprintf("%s (process %d)", name, h.PID)
}

// inUseError says that a server has the data folder.
type inUseError struct {
	dataDir string
	holder  Holder
}

func (e *inUseError) Error() string {
	return fmt.Sprintf("%s is using the data folder %s; stop it first, or give this one a folder of its own with VOLTRUN_DATA",
		e.holder, e.dataDir)
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
//
// A server keeps the folder as long as it likes, so nobody waits for one. A command ends, and is waited for.
func lockDataDir(ctx context.Context, cfg Config) (*os.File, error) {
	var told Holder
	for began := time.Now(); ; {
		file, err := tryLock(lockPath(cfg.DataDir), cfg.Command)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the data folder: %w", err)
		}
		holder := readHolder(lockPath(cfg.DataDir))
		if holder.Command == "" && time.Since(began) > lockPatience {
			return nil, &inUseError{cfg.DataDir, holder}
		}
		if holder.Command != "" {
			began = time.Now()
			if holder != told {
				cfg.Waiting(holder)
				told = holder
			}
		}
		if err := sleep(ctx, lockInterval); err != nil {
			return nil, fmt.Errorf("wait until %s is done with the data folder %s: %w", holder, cfg.DataDir, err)
		}
	}
}

// lockFile takes the lock of the file at path as soon as it can, and writes this process's id into it. The error is
// EWOULDBLOCK when ctx ends while somebody else holds the lock.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	file, err := tryLock(path, "")
	for errors.Is(err, syscall.EWOULDBLOCK) && sleep(ctx, lockInterval) == nil {
		file, err = tryLock(path, "")
	}
	return file, err
}

// tryLock takes the lock of the file at path and writes into it who has it. The error is EWOULDBLOCK when somebody else
// does.
func tryLock(path, command string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		err = writeHolder(file, Holder{os.Getpid(), command})
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// writeHolder makes file say who has the lock.
func writeHolder(file *os.File, h Holder) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(file, "%d\n%s\n", h.PID, h.Command)
	return err
}

// readHolder reads who has the lock of the file at path, as far as that can be told.
func readHolder(path string) (h Holder) {
	content, err := os.ReadFile(path)
	if err != nil {
		return h
	}
	pid, command, _ := strings.Cut(string(content), "\n")
	h.PID, _ = strconv.Atoi(pid)
	h.Command = strings.TrimSpace(command)
	return h
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

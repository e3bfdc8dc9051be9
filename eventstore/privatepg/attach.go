package privatepg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// attachPatience is how long Attach waits for a server that somebody is starting.
const attachPatience = 30 * time.Second

// Attach finds the server that another process runs on a data folder, so that an operator's command can work on the same
// database, and returns its connection string. It starts nothing and leaves the server to whom it belongs: it may end at
// any moment. running is false when no server has the data folder; Start can be called then, and waits for a command that
// has it: its Postgres is about to go.
//
// A server that is being started is waited for. The error says when it is not ready in time, or when the folder belongs
// to a user whose server we cannot reach.
func Attach(ctx context.Context, dataDir string) (dsn string, running bool, err error) {
	dataDir, err = realPath(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("find the data folder: %w", err)
	}
	for deadline := time.Now().Add(attachPatience); ; {
		held, err := lockIsHeld(lockPath(dataDir))
		if err != nil || !held {
			return "", false, err
		}
		holder := readHolder(lockPath(dataDir))
		if holder.Command != "" {
			return "", false, nil
		}
		file := readPostmasterFile(cluster{dataDir: dataDir}.postmasterFile())
		if file.status == "ready" && alive(file.pid) {
			return file.dsn(), true, canReach(file)
		}
		if time.Now().After(deadline) {
			return "", true, fmt.Errorf("%s has the data folder %s, but its Postgres is not ready", holder, dataDir)
		}
		if err := sleep(ctx, pollInterval); err != nil {
			return "", true, err
		}
	}
}

// HasCluster tells whether there is a Postgres in the data folder, running or not.
func HasCluster(dataDir string) bool {
	_, err := os.Stat(cluster{dataDir: dataDir}.dir())
	return err == nil
}

// lockIsHeld tells whether a process has the data folder. Looking takes a shared lock for a moment, which a process that
// starts right then waits out.
func lockIsHeld(path string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether a server has the data folder: %w", err)
	}
	defer file.Close()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		return false, fmt.Errorf("look whether a server has the data folder: %w", err)
	}
	return err != nil, nil
}

// alive tells whether there is a process of that id, whoever's it is.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// canReach tells why a server's socket cannot be reached, as far as that is plain.
func canReach(file postmasterFile) error {
	socket := filepath.Join(file.socketDir, fmt.Sprintf(".s.PGSQL.%d", file.port))
	if _, err := os.Stat(socket); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the Postgres behind %s belongs to another user; run this as the user that runs the server, or as root", socket)
	}
	return nil
}

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// ownFolder is a temporary folder of this server. It is locked for as long as the server lives; what a dead one has left is
// removed by the next.
type ownFolder struct {
	path string
	lock *os.File
}

func newOwnFolder(prefix string) (*ownFolder, error) {
	dead, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, path := range dead {
		if lock, err := lockFolder(path); err == nil {
			_ = (&ownFolder{path, lock}).close() // another user's stays
		}
	}
	const attempts = 3
	for range attempts { // another server may take the new folder for a dead one's, before it is locked
		path, err := os.MkdirTemp("", prefix)
		if err != nil {
			return nil, err
		}
		lock, err := lockFolder(path)
		if err == nil && os.Chmod(path, 0o711) == nil { // users of programs go through it
			return &ownFolder{path, lock}, nil
		}
	}
	return nil, errors.New("other servers keep removing this server's new folder")
}

func lockFolder(path string) (*os.File, error) {
	lock, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func (f *ownFolder) close() error { return errors.Join(removeAll(f.path), f.lock.Close()) }

package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// states is a folder for bundles, and for what the runtime knows of their containers. It is locked for as long as the server
// lives; what a dead one has left is removed by the next.
type states struct {
	folder   string
	lock     *os.File
	deletion func(states, container string) []string // the command for it; nil when there is nothing to delete but files
}

const statesPrefix = "voltrun-oci-"

func openStates(deletion func(states, container string) []string) (*states, error) {
	dead, _ := filepath.Glob(filepath.Join(os.TempDir(), statesPrefix+"*"))
	for _, folder := range dead {
		if lock, err := lockStates(folder); err == nil {
			_ = errors.Join((&states{folder: folder, lock: lock, deletion: deletion}).close()) // another user's stays
		}
	}
	const attempts = 3
	for range attempts { // another server may take the new folder for a dead one's, before it is locked
		folder, err := os.MkdirTemp("", statesPrefix)
		if err != nil {
			return nil, err
		}
		lock, err := lockStates(folder)
		if err == nil && os.Mkdir(filepath.Join(folder, "state"), 0o700) == nil {
			return &states{folder: folder, lock: lock, deletion: deletion}, os.Chmod(folder, 0o711) // a program's user gets to its bundle
		}
	}
	return nil, errors.New("other servers keep removing the new folder for bundles")
}

func lockStates(folder string) (*os.File, error) {
	lock, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

const bundlePrefix = "bundle-"

func (s *states) newBundle() (string, error) {
	bundle, err := os.MkdirTemp(s.folder, bundlePrefix)
	if err != nil {
		return "", err
	}
	return bundle, os.Chmod(bundle, 0o711)
}

// remove deletes a bundle, and what the runtime still knows of its container when it could not see to that itself. Nothing
// of the container lives any more: only control groups that the runtime has made are left to remove, by the runtime.
func (s *states) remove(bundle string) error {
	left := s.left(filepath.Base(bundle))
	if len(left) > 0 && s.deletion != nil {
		argv := s.deletion(s.known(), filepath.Base(bundle))
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env, cmd.Dir = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=" + s.folder}, "/"
		_ = cmd.Run() // it fails when there was nothing to delete but files
	}
	var err error
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return errors.Join(err, removeAll(bundle))
}

// known is the folder for what the runtime knows.
func (s *states) known() string { return filepath.Join(s.folder, "state") }

// left finds a container's state: runtimes name its folder or its files after it.
func (s *states) left(container string) []string {
	found, _ := filepath.Glob(filepath.Join(s.known(), container+"*"))
	return found
}

// close removes the folder with all that is left in it.
func (s *states) close() error {
	bundles, err := filepath.Glob(filepath.Join(s.folder, bundlePrefix+"*"))
	for _, bundle := range bundles {
		err = errors.Join(err, s.remove(bundle))
	}
	err = errors.Join(err, removeAll(s.folder))
	return errors.Join(err, s.lock.Close())
}

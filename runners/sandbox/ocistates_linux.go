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
	folder  string
	lock    *os.File
	command func(states string, arguments ...string) []string
}

const statesPrefix = "voltrun-oci-"

func openStates(command func(states string, arguments ...string) []string) (*states, error) {
	dead, _ := filepath.Glob(filepath.Join(os.TempDir(), statesPrefix+"*"))
	for _, folder := range dead {
		if lock, err := lockStates(folder); err == nil {
			_ = errors.Join((&states{folder: folder, lock: lock, command: command}).close()) // another user's stays
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
			return &states{folder: folder, lock: lock, command: command}, os.Chmod(folder, 0o711) // a program's user gets to its bundle
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

// remove deletes a bundle, and its container when the runtime has not done so itself.
func (s *states) remove(bundle string) error {
	if s.left(filepath.Base(bundle)) {
		argv := s.command(s.known(), "delete", "--force", filepath.Base(bundle))
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env, cmd.Dir = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=" + s.folder}, "/"
		_ = cmd.Run() // it has said that there is nothing to delete, or leaves what is removed with the folder
	}
	return removeAll(bundle)
}

// known is the folder for what the runtime knows.
func (s *states) known() string { return filepath.Join(s.folder, "state") }

// left looks for a container's state, of which runtimes name the folder or the files after it.
func (s *states) left(container string) bool {
	found, _ := filepath.Glob(filepath.Join(s.known(), container+"*"))
	return len(found) > 0
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

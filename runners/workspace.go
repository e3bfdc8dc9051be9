package runners

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed shims/node.cjs shims/python.py
var shims embed.FS

const (
	nodeShim   = "shims/node.cjs"
	pythonShim = "shims/python.py"
)

// How the folder of one server is named under the system's temporary folder, and before its lock is held.
const (
	workspacePrefix = "voltrun-runs-"
	startingPrefix  = "voltrun-starting-"
)

// shimFolder is the folder of the shims, below the root.
const shimFolder = "shims"

// workspaces is where the workers of one server have their files: the shims, and a slot for each worker.
type workspaces struct {
	root string
	lock *os.File // held as long as the server lives, so that its folder is not taken for a dead one's
}

func newWorkspaces() (*workspaces, error) {
	removeDeadWorkspaces()
	made, err := os.MkdirTemp("", startingPrefix)
	if err != nil {
		return nil, err
	}
	w := &workspaces{root: made}
	if err = w.open(); err == nil {
		err = w.prepare()
	}
	if err != nil {
		_ = os.RemoveAll(w.root)
		return nil, err
	}
	return w, nil
}

// open gives the root its name once its lock is held: a folder of that name without a lock is a dead server's.
func (w *workspaces) open() error {
	path, err := filepath.EvalSymlinks(w.root)
	if err != nil {
		return err
	}
	if w.lock, err = lockFolder(path); err != nil {
		return err
	}
	folder, name := filepath.Split(path)
	named := filepath.Join(folder, workspacePrefix+strings.TrimPrefix(name, startingPrefix))
	if err := os.Rename(path, named); err != nil {
		return err
	}
	w.root = named
	return nil
}

// prepare fills the root. Functions may pass through it (0711), not list it.
func (w *workspaces) prepare() error {
	if err := makeFolder(w.shims(), 0o755); err != nil {
		return err
	}
	for _, shim := range []string{nodeShim, pythonShim} {
		source, err := shims.ReadFile(shim)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(w.root, shim), source, 0o444); err != nil {
			return err
		}
	}
	if err := os.Chmod(w.root, 0o711); err != nil {
		return err
	}
	return w.checkReachable()
}

// checkReachable makes sure that a user that functions run as gets through to the shims.
func (w *workspaces) checkReachable() error {
	cmd := exec.Command("/bin/sh", "-c", `test -r "$0"`, filepath.Join(w.root, nodeShim))
	cmd.Env, cmd.Dir, cmd.SysProcAttr = []string{}, "/", &syscall.SysProcAttr{Credential: unprivileged()}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the users that functions run as cannot read %s (%w): set TMPDIR to a folder that everybody may enter", w.root, err)
	}
	return nil
}

// unprivileged is a user who is neither an account of the host nor one that functions run as; nil is the server's own,
// when that is not root.
func unprivileged() *syscall.Credential {
	const nobodys = 60799
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: nobodys, Gid: nobodys}
}

// makeFolder makes a folder with that mode, whatever the umask is.
func makeFolder(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// writeFile makes a file with that mode, whatever the umask is.
func writeFile(path string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, content, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func (w *workspaces) shims() string { return filepath.Join(w.root, shimFolder) }

func (w *workspaces) close() error {
	err := os.RemoveAll(w.root)
	return errors.Join(err, w.lock.Close())
}

// lockFolder takes the lock that tells a living server's folder from a dead one's.
func lockFolder(folder string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// removeDeadWorkspaces removes what killed servers left behind, in which there may be code of accounts that are erased
// later. A young folder of a server that is starting may still be about to be locked.
func removeDeadWorkspaces() {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), workspacePrefix+"*"))
	starting, _ := filepath.Glob(filepath.Join(os.TempDir(), startingPrefix+"*"))
	for _, folder := range append(folders, starting...) {
		info, err := os.Lstat(folder)
		if err != nil || !info.IsDir() {
			continue
		}
		if strings.HasPrefix(filepath.Base(folder), startingPrefix) && time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
			continue
		}
		if lock, err := lockFolder(folder); err == nil {
			_ = os.RemoveAll(folder)
			_ = lock.Close()
		}
	}
}

package runners

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/voltrun/voltrun/domain"
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

// workspaces is where the runs of one server have their files: the shims, and a folder for each run.
type workspaces struct {
	root string
	lock *os.File // held as long as the server lives, so that its folder is not taken for a dead one's
}

func newWorkspaces(users *users) (*workspaces, error) {
	removeDeadWorkspaces()
	made, err := os.MkdirTemp("", startingPrefix)
	if err != nil {
		return nil, err
	}
	w := &workspaces{root: made}
	if err = w.open(); err == nil {
		err = w.prepare(users)
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
func (w *workspaces) prepare(users *users) (err error) {
	if err := os.Chmod(w.root, 0o711); err != nil {
		return err
	}
	for _, shim := range []string{nodeShim, pythonShim} {
		source, err := shims.ReadFile(shim)
		if err != nil {
			return err
		}
		if err := writeFile(w.shim(shim), source, 0o444); err != nil {
			return err
		}
	}
	as, err := users.take(context.Background())
	if err != nil {
		return err
	}
	defer users.giveBack(as)
	return w.checkReachable(as)
}

// checkReachable makes sure that a user that functions run as gets through to the shims.
func (w *workspaces) checkReachable(as *syscall.Credential) error {
	cmd := exec.Command("/bin/sh", "-c", `test -r "$0"`, w.shim(nodeShim))
	cmd.Env, cmd.Dir, cmd.SysProcAttr = []string{}, "/", &syscall.SysProcAttr{Credential: as}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the users that functions run as cannot read %s (%w): set TMPDIR to a folder that everybody may enter", w.root, err)
	}
	return nil
}

// writeFile makes a file with that mode, whatever the umask is.
func writeFile(path string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, content, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func (w *workspaces) shim(name string) string { return filepath.Join(w.root, filepath.Base(name)) }

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

// workspace is the folder of one run: the code, which the handler can only read, and a folder of its own to write to.
// Nobody else but root gets into it.
type workspace struct {
	root, code, tmp string
	stem            string // the code file's name without its ending
	file            string // the code file
	moduleFile      string // Node.js: the same file under the name that makes it an ES module
}

// create makes the folder of a run for the user that it runs as; nil is the server's own.
func (w *workspaces) create(f domain.Function, as *syscall.Credential) (_ *workspace, err error) {
	root, err := os.MkdirTemp(w.root, "")
	if err != nil {
		return nil, err
	}
	stem, _, _ := strings.Cut(f.EntryPoint, ".")
	s := &workspace{root: root, code: filepath.Join(root, "code"), tmp: filepath.Join(root, "tmp"), stem: stem}
	s.file = filepath.Join(s.code, stem+domain.FileExtension(f.Runtime))
	s.moduleFile = filepath.Join(s.code, stem+".mjs")
	if err := s.fill(f, as); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// fill makes everything and then hands it over: the handler's user may write to what it owns, and read what its group
// has.
func (s *workspace) fill(f domain.Function, as *syscall.Credential) error {
	if err := errors.Join(os.Mkdir(s.code, 0o700), os.Mkdir(s.tmp, 0o700)); err != nil {
		return err
	}
	if err := writeFile(s.file, []byte(f.Code), 0o440); err != nil {
		return err
	}
	if as != nil {
		const keep = -1
		gid := int(as.Gid)
		err := errors.Join(os.Chown(s.root, keep, gid), os.Chown(s.code, keep, gid), os.Chown(s.file, keep, gid), os.Chown(s.tmp, int(as.Uid), gid))
		if err != nil {
			return err
		}
	}
	if domain.FileExtension(f.Runtime) == ".js" {
		if err := os.Link(s.file, s.moduleFile); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod(s.code, 0o750), os.Chmod(s.root, 0o710))
}

// remove deletes the folder, also what the handler made unreadable in it.
func (s *workspace) remove() error {
	if err := os.RemoveAll(s.root); err == nil {
		return nil
	}
	_ = filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(s.root)
}

// conceal takes the folder's own path out of a message, so that a file is shown as its author knows it.
func (s *workspace) conceal(text string) string {
	return strings.NewReplacer(
		"file://"+s.code+"/"+s.stem+".mjs", s.stem+".js", s.moduleFile, s.stem+".js",
		"file://"+s.code+"/", "", s.code+"/", "", s.root, "",
	).Replace(text)
}

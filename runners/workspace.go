package runners

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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

// workspacePrefix names the folder of one server under the system's temporary folder.
const workspacePrefix = "voltrun-runs-"

// functionID is the user and the group that functions run as when the server is root. It is nobody's: what runs as an
// account of the host, such as "nobody", could reach what else runs as that account, such as the private Postgres.
// Debian reserves the number and gives it to no one (Debian policy, 9.2.2).
const functionID = 65533

// functionUser returns nil when the server is not root, and so cannot run functions as anybody but itself.
func functionUser() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: functionID, Gid: functionID}
}

// workspaces is where the runs of one server have their files: the shims, and a folder for each run.
type workspaces struct {
	root string
	lock *os.File // held as long as the server lives, so that its folder is not taken for a dead one's
	as   *syscall.Credential
}

func newWorkspaces(as *syscall.Credential) (*workspaces, error) {
	removeDeadWorkspaces()
	root, err := os.MkdirTemp("", workspacePrefix)
	if err != nil {
		return nil, err
	}
	w := &workspaces{as: as}
	if w.root, err = filepath.EvalSymlinks(root); err == nil {
		err = w.prepare()
	}
	if err != nil {
		_ = os.RemoveAll(root)
		return nil, err
	}
	return w, nil
}

// prepare fills the root. Functions may pass through it (0711), not list it.
func (w *workspaces) prepare() (err error) {
	if w.lock, err = lockFolder(w.root); err != nil {
		return err
	}
	if err := os.Chmod(w.root, 0o711); err != nil {
		return err
	}
	for _, shim := range []string{nodeShim, pythonShim} {
		source, err := shims.ReadFile(shim)
		if err != nil {
			return err
		}
		if err := os.WriteFile(w.shim(shim), source, 0o444); err != nil {
			return err
		}
	}
	return w.checkReachable()
}

// checkReachable makes sure that the user that functions run as gets through to the shims.
func (w *workspaces) checkReachable() error {
	cmd := exec.Command("/bin/sh", "-c", `test -r "$0"`, w.shim(nodeShim))
	cmd.Env, cmd.Dir, cmd.SysProcAttr = []string{}, "/", &syscall.SysProcAttr{Credential: w.as}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the user that functions run as cannot read %s (%w): set TMPDIR to a folder that everybody may enter", w.root, err)
	}
	return nil
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

// removeDeadWorkspaces removes what killed servers left behind. A young folder may still be about to be locked.
func removeDeadWorkspaces() {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), workspacePrefix+"*"))
	for _, folder := range folders {
		info, err := os.Lstat(folder)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
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
type workspace struct {
	root, code, tmp string
	stem            string // the code file's name without its ending
	file            string // the code file
	moduleFile      string // Node.js: the same file under the name that makes it an ES module
}

func (w *workspaces) create(f domain.Function) (_ *workspace, err error) {
	root, err := os.MkdirTemp(w.root, "")
	if err != nil {
		return nil, err
	}
	stem, _, _ := strings.Cut(f.EntryPoint, ".")
	s := &workspace{root: root, code: filepath.Join(root, "code"), tmp: filepath.Join(root, "tmp"), stem: stem}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
	s.file = filepath.Join(s.code, stem+domain.FileExtension(f.Runtime))
	s.moduleFile = filepath.Join(s.code, stem+".mjs")

	steps := []func() error{
		func() error { return os.Chmod(root, 0o711) },
		func() error { return os.Mkdir(s.code, 0o755) },
		func() error { return os.Mkdir(s.tmp, 0o700) },
		func() error { return os.WriteFile(s.file, []byte(f.Code), 0o444) },
		func() error { return w.giveAway(s.tmp) },
	}
	if domain.FileExtension(f.Runtime) == ".js" {
		steps = append(steps, func() error { return os.Link(s.file, s.moduleFile) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (w *workspaces) giveAway(folder string) error {
	if w.as == nil {
		return nil
	}
	return os.Chown(folder, int(w.as.Uid), int(w.as.Gid))
}

// remove deletes the folder, also what the handler made unreadable in it.
func (s *workspace) remove() {
	err := os.RemoveAll(s.root)
	if err == nil {
		return
	}
	_ = filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	if err := os.RemoveAll(s.root); err != nil {
		slog.Warn("the folder of a run could not be removed", "folder", s.root, "error", err)
	}
}

// conceal takes the folder's own path out of a message, so that a file is shown as its author knows it.
func (s *workspace) conceal(text string) string {
	return strings.NewReplacer(
		"file://"+s.code+"/"+s.stem+".mjs", s.stem+".js", s.moduleFile, s.stem+".js",
		"file://"+s.code+"/", "", s.code+"/", "", s.root, "",
	).Replace(text)
}

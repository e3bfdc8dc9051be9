package runners

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// probeTimeout is generous: a version manager's shim under load takes its time.
const probeTimeout = 10 * time.Second

// interpreterNames are the executables to look for, by the language that their names begin with.
var interpreterNames = []string{
	"node", "nodejs", "node18", "node20", "node22",
	"python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13",
}

// What an interpreter is asked: its real binary, which is not the one that was called when that is a shim, the folder in
// which it is installed, and its version.
const (
	askNode = `process.stdout.write(JSON.stringify({Path: process.execPath, Prefix: require('path').dirname(require('path').dirname(process.execPath)),
		Version: process.versions.node}))`
	askPython = `import sys, json; print(json.dumps({"Path": sys.executable, "Prefix": sys.base_prefix, "Version": "%d.%d.%d" % sys.version_info[:3]}))`
)

// interpreterCandidates lists the executables in the usual places.
func interpreterCandidates() []string {
	var paths []string
	seen := map[string]bool{}
	for _, folder := range interpreterFolders() {
		for _, name := range interpreterNames {
			path := filepath.Join(folder, name)
			real, err := filepath.EvalSymlinks(path)
			if err != nil || !filepath.IsAbs(path) {
				continue
			}
			if !strings.HasPrefix(filepath.Base(real), name[:4]) {
				real = path // a version manager, which is another interpreter under each name
			}
			if !seen[real] {
				seen[real] = true
				paths = append(paths, path)
			}
		}
	}
	return paths
}

func interpreterFolders() []string {
	home, _ := os.UserHomeDir()
	folders := append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin", "/usr/local/bin")
	for _, versions := range []string{
		filepath.Join(home, ".nvm/versions/node"), filepath.Join(os.Getenv("NVM_DIR"), "versions/node"),
		filepath.Join(home, ".pyenv/versions"), filepath.Join(os.Getenv("PYENV_ROOT"), "versions"),
	} {
		installed, _ := filepath.Glob(filepath.Join(versions, "*/bin"))
		folders = append(folders, installed...)
	}
	return folders
}

// probe asks one executable what it is, as the user that functions run as. It returns nil for one that cannot serve.
func probe(ctx context.Context, path string, as *syscall.Credential) *Interpreter {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	python := strings.HasPrefix(filepath.Base(path), "python")
	args := []string{"-e", askNode}
	if python {
		args = []string{"-I", "-c", askPython}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/", baseEnvironment(path), time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}

	out, err := cmd.Output()
	found := Interpreter{Python: python}
	if err == nil {
		err = json.Unmarshal(out, &found)
	}
	if err != nil || !found.supported() {
		return nil
	}
	return &found
}

// preferred orders interpreters: the newest release line first, and within one line the system's own, because a
// version manager's build starts several times slower.
func preferred(a, b *Interpreter) int {
	return cmp.Or(
		cmp.Compare(b.line(), a.line()),
		cmp.Compare(a.foreign(), b.foreign()),
		slices.Compare(b.release(), a.release()),
		strings.Compare(a.Path, b.Path),
	)
}

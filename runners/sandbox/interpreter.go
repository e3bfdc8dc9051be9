package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// systemRoots are what every sandbox shows of the host.
var systemRoots = []string{"/usr", "/bin", "/lib", "/lib64"}

// prefixFolders are what an interpreter needs of the folder that it is installed in. The folder as a whole is not shown:
// for a program in ~/bin it would be somebody's home.
var prefixFolders = []string{"bin", "lib", "lib64", "ssl"}

// InterpreterMounts tells which folders have to be mounted for a program beside the system, given its real path: none for
// one below /usr, and those of its installation for one of nvm, pyenv and the like. They must appear at the same paths,
// because an interpreter has its own compiled in.
func InterpreterMounts(path string) []Mount {
	if slices.ContainsFunc(systemRoots, func(root string) bool { return strings.HasPrefix(path, root+"/") }) {
		return nil
	}
	folder := filepath.Dir(path)
	if filepath.Base(folder) != "bin" {
		return []Mount{{Source: path, Target: path}}
	}
	var mounts []Mount
	for _, name := range prefixFolders {
		needed := filepath.Join(filepath.Dir(folder), name)
		if info, err := os.Stat(needed); err == nil && info.IsDir() {
			mounts = append(mounts, Mount{Source: needed, Target: needed})
		}
	}
	return mounts
}

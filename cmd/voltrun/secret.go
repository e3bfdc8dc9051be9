package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/voltrun/voltrun/interfaces/rest"
)

// jwtSecretFile holds the secret that signs access tokens, when JWT_SECRET does not.
const jwtSecretFile = "jwt_secret"

// jwtSecret returns the secret that signs access tokens: the configured one, or the data folder's own, which is made
// at the first start.
func jwtSecret(c config) ([]byte, error) {
	if c.JWTSecret != "" {
		return []byte(c.JWTSecret), nil
	}
	file := filepath.Join(c.DataDir, jwtSecretFile)
	if err := makeSecret(file, newSecret()); err != nil {
		return nil, fmt.Errorf("make the secret for access tokens: %w", err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the secret for access tokens: %w", err)
	}
	secret := strings.TrimSpace(string(content))
	if len(secret) < rest.MinSecretBytes {
		return nil, fmt.Errorf("the secret in %s is too short; delete the file to have a new one made (everybody has to log in again)", file)
	}
	return []byte(secret), nil
}

// newSecret is 32 random bytes, as hex digits.
func newSecret() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails, by its contract
	return hex.EncodeToString(secret[:])
}

// makeSecret writes a new secret to file, whole or not at all, unless there is one.
func makeSecret(file, secret string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	draft, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // readable by its owner only
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name())
	_, writeErr := draft.WriteString(secret + "\n")
	if err := errors.Join(writeErr, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link does not replace what another server has made in the meantime.
	if err := os.Link(draft.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// The folder as well, and the one that it stands in: a key that is lost with the power cannot be made again.
	return errors.Join(syncFolder(filepath.Dir(file)), syncFolder(filepath.Dir(filepath.Dir(file))))
}

package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/voltrun/voltrun/eventstore/durable"
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
	err := durable.WriteNew(file, func(draft *os.File) error {
		_, err := draft.WriteString(secret + "\n")
		return err
	})
	if err != nil {
		return err
	}
	// The folder that it stands in as well: a key that is lost with the power cannot be made again.
	return durable.SyncFolder(filepath.Dir(filepath.Dir(file)))
}

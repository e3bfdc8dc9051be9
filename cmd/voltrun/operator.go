package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/voltrun/voltrun/interfaces/rest"
)

// operatorToken makes a token for the server with this configuration. It is empty when we do not know its secret: another
// host's server is asked without one, and answers less.
func operatorToken(c config) (string, error) {
	secret := c.JWTSecret
	if secret == "" {
		content, err := os.ReadFile(filepath.Join(c.DataDir, jwtSecretFile))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		secret = strings.TrimSpace(string(content))
	}
	return rest.OperatorToken([]byte(secret), time.Now())
}

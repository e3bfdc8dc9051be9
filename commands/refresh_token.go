package commands

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/google/uuid"
)

// refreshTokenPrefix tells people and secret scanners what they have before them.
const refreshTokenPrefix = "vrr_"

// refreshToken names its session, so that no look-up table is needed, and proves it with 256 random bits.
type refreshToken struct {
	sessionID uuid.UUID
	secret    [32]byte
}

func (t refreshToken) String() string {
	return refreshTokenPrefix + base64.RawURLEncoding.EncodeToString(append(t.sessionID[:], t.secret[:]...))
}

func (t refreshToken) hash() []byte {
	sum := sha256.Sum256(t.secret[:])
	return sum[:]
}

func parseRefreshToken(s string) (t refreshToken, ok bool) {
	encoded, prefixed := strings.CutPrefix(s, refreshTokenPrefix)
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if !prefixed || err != nil || len(raw) != len(t.sessionID)+len(t.secret) {
		return t, false
	}
	copy(t.sessionID[:], raw)
	copy(t.secret[:], raw[len(t.sessionID):])
	return t, true
}

package eventstore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// MasterKey wraps the accounts' data keys. Whoever has it and the database can read every account; without it, nobody can.
type MasterKey [chacha20poly1305.KeySize]byte

// MasterKeyID tells master keys apart without showing them. Each wrapped key begins with the id of the key that wrapped it.
type MasterKeyID [4]byte

func (id MasterKeyID) String() string { return hex.EncodeToString(id[:]) }

// ParseMasterKey reads a master key from its 64 hex digits.
func ParseMasterKey(text string) (MasterKey, error) {
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != chacha20poly1305.KeySize {
		return MasterKey{}, errors.New("a master key is 64 hex digits; make one with: openssl rand -hex 32")
	}
	return MasterKey(raw), nil
}

// ParseMasterKeys reads one or several master keys, separated by commas or line ends, the newest first.
func ParseMasterKeys(text string) ([]MasterKey, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",\r\n", r) })
	keys := make([]MasterKey, len(fields))
	for i, field := range fields {
		var err error
		if keys[i], err = ParseMasterKey(field); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no master key; make one with: openssl rand -hex 32")
	}
	return keys, nil
}

// Hex is the form that ParseMasterKey reads.
func (m MasterKey) Hex() string { return hex.EncodeToString(m[:]) }

// String keeps the key out of messages and logs.
func (m MasterKey) String() string { return "master key " + m.ID().String() }

// ID is the key's id.
func (m MasterKey) ID() MasterKeyID {
	sum := sha256.Sum256(m[:])
	return MasterKeyID(sum[:])
}

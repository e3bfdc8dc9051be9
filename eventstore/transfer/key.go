package transfer

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/voltrun/voltrun/eventstore"
)

// Key seals an export. Whoever has it and the file can read all that is in it.
type Key [32]byte

// NewKey makes a key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never fails, by its contract
	return k
}

// ParseKey reads a key from its 64 hex digits.
func ParseKey(text string) (Key, error) {
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != len(Key{}) {
		return Key{}, errors.New("a transfer key is 64 hex digits")
	}
	return Key(raw), nil
}

// String is the form that ParseKey reads.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// id tells keys apart without telling anything of them.
func (k Key) id() string { return hex.EncodeToString(k.derive("id")[:4]) }

// mac proves that a file with this hash was made by somebody who had the key.
func (k Key) mac(sum []byte) []byte {
	m := hmac.New(sha256.New, k.derive("mac"))
	m.Write(sum)
	return m.Sum(nil)
}

func (k Key) derive(use string) []byte {
	key, err := hkdf.Key(sha256.New, k[:], nil, "voltrun transfer "+use, len(k))
	if err != nil {
		panic(err) // only for a length that there is not
	}
	return key
}

// box seals what must not stand in a file as it is.
func (k Key) box() *eventstore.Box { return eventstore.NewBox([32]byte(k.derive("seal"))) }

// open opens what was sealed in a file.
func open(box *eventstore.Box, sealed []byte, belongsTo ...[]byte) ([]byte, error) {
	content, err := box.Open(sealed, belongsTo...)
	if err != nil {
		return nil, errAltered
	}
	return content, nil
}

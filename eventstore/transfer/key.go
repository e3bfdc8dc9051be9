package transfer

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
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

// sealer seals what must not stand in a file as it is.
type sealer struct{ aead cipher.AEAD }

func (k Key) sealer() sealer {
	aead, err := chacha20poly1305.NewX(k.derive("seal"))
	if err != nil {
		panic(err) // only for a key of another length
	}
	return sealer{aead}
}

// seal seals content that belongs to something, so that nobody can move it elsewhere unnoticed.
func (s sealer) seal(content []byte, belongsTo ...[]byte) []byte {
	sealed := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(content)+chacha20poly1305.Overhead)
	_, _ = rand.Read(sealed) // never fails, by its contract
	return s.aead.Seal(sealed, sealed, content, slices.Concat(belongsTo...))
}

func (s sealer) open(sealed []byte, belongsTo ...[]byte) ([]byte, error) {
	if len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, errAltered
	}
	content, err := s.aead.Open([]byte{}, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], slices.Concat(belongsTo...))
	if err != nil {
		return nil, errAltered
	}
	return content, nil
}

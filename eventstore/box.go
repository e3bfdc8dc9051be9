package eventstore

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// boxOverhead is how much longer content gets in a box, in bytes.
const boxOverhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// ErrBoxAltered answers for something that was not sealed by a box of this key, or not for what it is bound to.
var ErrBoxAltered = errors.New("what was sealed, or its key, was altered")

// Box seals content under one key (XChaCha20-Poly1305), bound to what it belongs to, so that nobody can read it or move it
// elsewhere unnoticed. It is safe for concurrent use.
type Box struct{ aead cipher.AEAD }

// NewBox makes the box of a key.
func NewBox(key [chacha20poly1305.KeySize]byte) *Box {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err) // only for a key of another length
	}
	return &Box{aead}
}

// Seal appends a random nonce and the sealed content to a prefix, which may be nil.
func (b *Box) Seal(prefix, content []byte, boundTo ...[]byte) []byte {
	sealed := slices.Grow(prefix, len(content)+boxOverhead)
	nonce := sealed[len(prefix) : len(prefix)+chacha20poly1305.NonceSizeX]
	_, _ = rand.Read(nonce) // never fails, by its contract
	return b.aead.Seal(sealed[:len(prefix)+len(nonce)], nonce, content, slices.Concat(boundTo...))
}

// Open returns the content of what Seal has appended, which is never nil, or ErrBoxAltered.
func (b *Box) Open(sealed []byte, boundTo ...[]byte) ([]byte, error) {
	if len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, ErrBoxAltered
	}
	nonce, content := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	opened, err := b.aead.Open([]byte{}, nonce, content, slices.Concat(boundTo...))
	if err != nil {
		return nil, ErrBoxAltered
	}
	return opened, nil
}

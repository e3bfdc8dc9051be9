package eventstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
)

// Commitment is the SHA-256 of an event's disclosure. It stands in the log beside the payload and in the proof of
// history in its place, so it stays true when the payload was erased or moved to the archive.
type Commitment [sha256.Size]byte

// SaltSize is how many random bytes stand before the content in a disclosure. They keep what an event said from being
// guessed by its commitment once the payload is gone.
const SaltSize = 16

// The forms of a stored payload, told by its first byte. Behind it stands the disclosure, as it is or sealed.
const (
	formPlain  = 0
	formSealed = 1
)

var (
	// ErrErased answers for a payload whose account was erased: nobody can read it any more.
	ErrErased = errors.New("the payload was erased with its account")
	// ErrArchived answers for a payload that is not in the log any more but in the archive.
	ErrArchived = errors.New("the payload was moved to the archive")
	// ErrDamaged answers for a payload whose file in the archive is not the one that was written.
	ErrDamaged = errors.New("its file in the archive is damaged")
	// ErrUnknownForm answers for data that is no payload.
	ErrUnknownForm = errors.New("the payload has a form that this version of VoltRun does not know")
)

// newDisclosure is what an event says, as it can be shown to somebody who wants to check its commitment: sixteen random
// bytes and the content.
func newDisclosure(content []byte) []byte {
	disclosure := make([]byte, SaltSize+len(content))
	_, _ = rand.Read(disclosure[:SaltSize]) // never fails, by its contract
	copy(disclosure[SaltSize:], content)
	return disclosure
}

// Commit is the commitment to a disclosure.
func Commit(disclosure []byte) Commitment { return sha256.Sum256(disclosure) }

// Plain makes a payload that everybody can read who reads the log, and its commitment.
func Plain(content []byte) (data []byte, commitment Commitment) {
	disclosure := newDisclosure(content)
	return PlainOf(disclosure), Commit(disclosure)
}

// PlainOf is the plain payload with that disclosure.
func PlainOf(disclosure []byte) []byte { return slices.Concat([]byte{formPlain}, disclosure) }

// PlainDisclosure returns the disclosure of a plain payload, and false for any other data.
func PlainDisclosure(data []byte) (disclosure []byte, ok bool) {
	if len(data) < 1+SaltSize || data[0] != formPlain {
		return nil, false
	}
	return data[1:], true
}

// Content is what a disclosure says, without the salt. A disclosure that is too short for a salt says nothing.
func Content(disclosure []byte) []byte { return disclosure[min(SaltSize, len(disclosure)):] }

// Salt is the random part of a disclosure.
func Salt(disclosure []byte) []byte { return disclosure[:min(SaltSize, len(disclosure))] }

// Archive has payloads that have left the log.
type Archive interface {
	// Payload returns the payload of the event at a position, as the log had it (see NewEvent), or nil when the archive does
	// not have it. The caller must not change it.
	Payload(ctx context.Context, position Position) ([]byte, error)
}

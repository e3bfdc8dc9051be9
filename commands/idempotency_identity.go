package commands

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// identity is all that is derived from the owner and the key of a request. The key goes into everything and is stored
// nowhere: without it nobody can open the answer, find out the secrets that were made, or try passwords on the fingerprint.
type identity struct {
	stream      uuid.UUID // of the receipt; the answer has the same id
	secret      []byte
	fingerprint []byte // of the content
}

func (r Request) identify(root [32]byte) identity {
	mac := hmac.New(sha256.New, root[:])
	_ = binary.Write(mac, binary.BigEndian, uint64(len(r.Owner))) // so that no owner and key run into another pair
	mac.Write([]byte(r.Owner + r.Key))
	id := identity{secret: mac.Sum(nil)}
	id.stream = uuid.UUID(id.derive("stream")[:16])
	id.stream[6] = id.stream[6]&0x0f | 0x80 // version 8, an id made in one's own way
	id.stream[8] = id.stream[8]&0x3f | 0x80
	content := hmac.New(sha256.New, id.derive("fingerprint"))
	content.Write(r.Content)
	id.fingerprint = content.Sum(nil)
	return id
}

func (id identity) derive(purpose string) []byte {
	key, err := hkdf.Expand(sha256.New, id.secret, purpose, 32)
	if err != nil {
		panic(err) // only for a longer key
	}
	return key
}

// isOf tells whether a fingerprint is of this request's content.
func (id identity) isOf(fingerprint []byte) bool { return hmac.Equal(fingerprint, id.fingerprint) }

// randomOf is the randomness of the run with that receipt.
func (id identity) randomOf(receiptID uuid.UUID) io.Reader {
	return mathrand.NewChaCha8([32]byte(id.derive("randomness of " + receiptID.String())))
}

// idAt makes an id that rises with time (UUIDv7), like newID, but from given randomness.
func idAt(at time.Time, random io.Reader) uuid.UUID {
	id := uuid.Must(uuid.NewRandomFromReader(random))
	var milliseconds [8]byte
	binary.BigEndian.PutUint64(milliseconds[:], uint64(at.UnixMilli()))
	copy(id[:6], milliseconds[2:])
	id[6] = id[6]&0x0f | 0x70
	return id
}

// seal makes an answer unreadable, together with the fingerprint of what it answers.
func (id identity) seal(answer []byte) []byte {
	return id.box().Seal(nil, append(bytes.Clone(id.fingerprint), answer...), id.stream[:])
}

// open returns a sealed answer, if it is one to the same content.
func (id identity) open(sealed []byte) ([]byte, error) {
	answer, err := id.box().Open(sealed, id.stream[:])
	if err != nil {
		return nil, fmt.Errorf("the answer to request %s was altered", id.stream)
	}
	if !id.isOf(answer[:len(id.fingerprint)]) {
		return nil, errOtherContent
	}
	return answer[len(id.fingerprint):], nil
}

func (id identity) box() *eventstore.Box { return eventstore.NewBox([32]byte(id.derive("answer"))) }

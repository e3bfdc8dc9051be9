package eventstore

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/crypto/chacha20poly1305"
)

// dataKeySecret is the name of an account's data key in the vault.
const dataKeySecret = "data key"

// What a key ring remembers: so many accounts, for so long. An account that is erased by another process is gone for
// this one as soon as its key has left the memory.
const (
	rememberedKeys = 10_000
	rememberedFor  = 5 * time.Second
)

// masterKeyIDSize is how many bytes of a wrapped key tell which master key wrapped it.
const masterKeyIDSize = 4

// MasterKey wraps the accounts' data keys. Whoever has it and the database can read every account.
type MasterKey [chacha20poly1305.KeySize]byte

// ParseMasterKey reads a master key from its 64 hex digits.
func ParseMasterKey(text string) (MasterKey, error) {
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != chacha20poly1305.KeySize {
		return MasterKey{}, errors.New("a master key is 64 hex digits; make one with: openssl rand -hex 32")
	}
	return MasterKey(raw), nil
}

func (m MasterKey) id() []byte {
	sum := sha256.Sum256(m[:])
	return sum[:masterKeyIDSize]
}

func (m MasterKey) aead() cipher.AEAD { return newAEAD(m[:]) }

// KeyRing seals the payloads of accounts. Each account has a data key of its own in the vault, wrapped by the master key
// (XChaCha20-Poly1305, both). When an account's secrets are forgotten, what was sealed for it can never be read again.
type KeyRing struct {
	vault   Vault
	masters []MasterKey // the first one wraps new keys
	known   *expirable.LRU[uuid.UUID, cipher.AEAD]
}

// NewKeyRing makes a key ring over a vault. The first master key wraps new data keys, all of them unwrap.
func NewKeyRing(vault Vault, master MasterKey, older ...MasterKey) *KeyRing {
	return &KeyRing{
		vault: vault, masters: append([]MasterKey{master}, older...),
		known: expirable.NewLRU[uuid.UUID, cipher.AEAD](rememberedKeys, nil, rememberedFor),
	}
}

// seal makes the sealed payload of an event: nobody can move it to another event unnoticed.
func (k *KeyRing) seal(ctx context.Context, e NewEvent, disclosure []byte) ([]byte, error) {
	key, err := k.ensure(ctx, e.AccountID)
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, 1+chacha20poly1305.NonceSizeX, 1+chacha20poly1305.NonceSizeX+len(disclosure)+chacha20poly1305.Overhead)
	sealed[0] = formSealed
	_, _ = rand.Read(sealed[1:]) // never fails, by its contract
	return key.Seal(sealed, sealed[1:], disclosure, boundTo(e)), nil
}

// open returns the disclosure of a sealed payload, or ErrErased.
func (k *KeyRing) open(ctx context.Context, e NewEvent) ([]byte, error) {
	key, err := k.find(ctx, e.AccountID)
	if err != nil {
		return nil, err
	}
	return openSealed(key, e)
}

func openSealed(key cipher.AEAD, e NewEvent) ([]byte, error) {
	if len(e.Data) < 1+chacha20poly1305.NonceSizeX {
		return nil, ErrUnknownForm
	}
	nonce, box := e.Data[1:1+chacha20poly1305.NonceSizeX], e.Data[1+chacha20poly1305.NonceSizeX:]
	disclosure, err := key.Open(nil, nonce, box, boundTo(e))
	if err != nil {
		return nil, fmt.Errorf("the payload of event %s cannot be opened: it or its key was altered", e.ID)
	}
	return disclosure, nil
}

// boundTo is what a sealed payload belongs to.
func boundTo(e NewEvent) []byte { return slices.Concat(e.ID[:], []byte(e.Type)) }

// find returns an account's data key, or ErrErased when it has none.
func (k *KeyRing) find(ctx context.Context, account uuid.UUID) (cipher.AEAD, error) {
	key, known := k.known.Get(account)
	if !known {
		wrapped, err := k.vault.Get(ctx, account, dataKeySecret)
		switch {
		case errors.Is(err, ErrNoSecret): // remembered as well: a rebuild meets the events of an erased account by thousands
		case err != nil:
			return nil, err
		default:
			if key, err = k.unwrap(account, wrapped); err != nil {
				return nil, err
			}
		}
		k.known.Add(account, key)
	}
	if key == nil {
		return nil, ErrErased
	}
	return key, nil
}

// ensure is find for an account that may be so new that it has no key yet.
func (k *KeyRing) ensure(ctx context.Context, account uuid.UUID) (cipher.AEAD, error) {
	key, err := k.find(ctx, account)
	if !errors.Is(err, ErrErased) {
		return key, err
	}
	var fresh [chacha20poly1305.KeySize]byte
	_, _ = rand.Read(fresh[:]) // never fails, by its contract
	kept, err := k.vault.PutNew(ctx, account, dataKeySecret, k.wrap(account, fresh))
	if errors.Is(err, ErrNoSecret) {
		return nil, ErrErased
	}
	if err != nil {
		return nil, err
	}
	key, err = k.unwrap(account, kept)
	if err == nil {
		k.known.Add(account, key)
	}
	return key, err
}

// SystemKey returns a key for a purpose of the system's own, which is the same for every server on the vault and stays the
// same when the master key is changed: it comes from the data key of the nil account, which belongs to nobody.
func (k *KeyRing) SystemKey(ctx context.Context, purpose string) (key [32]byte, err error) {
	var fresh [chacha20poly1305.KeySize]byte
	_, _ = rand.Read(fresh[:]) // never fails, by its contract
	wrapped, err := k.vault.PutNew(ctx, uuid.Nil, dataKeySecret, k.wrap(uuid.Nil, fresh))
	if err != nil {
		return key, err
	}
	secret, err := k.unwrapKey(uuid.Nil, wrapped)
	if err != nil {
		return key, err
	}
	derived, err := hkdf.Expand(sha256.New, secret, purpose, len(key))
	copy(key[:], derived)
	return key, err
}

// Forget lets the ring look an account's key up again at its next use.
func (k *KeyRing) Forget(account uuid.UUID) { k.known.Remove(account) }

func (k *KeyRing) wrap(account uuid.UUID, key [chacha20poly1305.KeySize]byte) []byte {
	master := k.masters[0]
	var nonce [chacha20poly1305.NonceSizeX]byte
	_, _ = rand.Read(nonce[:]) // never fails, by its contract
	return master.aead().Seal(slices.Concat(master.id(), nonce[:]), nonce[:], key[:], account[:])
}

func (k *KeyRing) unwrap(account uuid.UUID, wrapped []byte) (cipher.AEAD, error) {
	key, err := k.unwrapKey(account, wrapped)
	if err != nil {
		return nil, err
	}
	return newAEAD(key), nil
}

func (k *KeyRing) unwrapKey(account uuid.UUID, wrapped []byte) ([]byte, error) {
	const nonceEnd = masterKeyIDSize + chacha20poly1305.NonceSizeX
	if len(wrapped) < nonceEnd {
		return nil, fmt.Errorf("the data key of account %s is damaged", account)
	}
	i := slices.IndexFunc(k.masters, func(m MasterKey) bool { return slices.Equal(m.id(), wrapped[:masterKeyIDSize]) })
	if i < 0 {
		return nil, fmt.Errorf("the data key of account %s is wrapped by another master key than those given (it begins with %x)",
			account, wrapped[:masterKeyIDSize])
	}
	key, err := k.masters[i].aead().Open(nil, wrapped[masterKeyIDSize:nonceEnd], wrapped[nonceEnd:], account[:])
	if err != nil {
		return nil, fmt.Errorf("the data key of account %s was altered", account)
	}
	return key, nil
}

func newAEAD(key []byte) cipher.AEAD {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // only for a key of another length
	}
	return aead
}

package eventstore

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/expirable"
)

// DataKeySecret is the name of an account's data key in the vault.
const DataKeySecret = "data key"

// rememberedKeys is how many accounts' keys a key ring remembers.
const rememberedKeys = 10_000

// KeysRememberedFor is how long a key ring remembers a key: so long after its erasure an account may still be readable to a
// process that nobody has told (see KeyRing.NoteErased).
const KeysRememberedFor = 5 * time.Second

// errNoDataKey answers for an account that was not erased, but has no data key in the vault.
var errNoDataKey = errors.New("its data key is not in the vault; restore the table vault from a backup")

// KeyRing seals the payloads of accounts. Each account has a data key of its own in the vault, wrapped by a master key
// (XChaCha20-Poly1305, both). When an account's key is destroyed, what was sealed for it can never be read again.
type KeyRing struct {
	vault  Vault
	read   func() ([]MasterKey, error)
	known  *expirable.LRU[uuid.UUID, *Box] // nil for an account that was erased
	erased sync.Map                        // the ids of accounts that this process was told to be erased

	mu      sync.Mutex
	masters []MasterKey               // the first one wraps new keys, all of them unwrap
	missed  map[MasterKeyID]uuid.UUID // master keys that were needed and not there, and an account that needed each
}

// NewKeyRing makes a key ring over a vault. The first master key wraps new data keys, all of them unwrap.
func NewKeyRing(vault Vault, master MasterKey, older ...MasterKey) *KeyRing {
	masters := append([]MasterKey{master}, older...)
	k, _ := OpenKeyRing(vault, func() ([]MasterKey, error) { return slices.Clone(masters), nil })
	return k
}

// OpenKeyRing makes a key ring whose master keys may change while it is used: read returns them, the newest first. It is
// asked again before a new data key is wrapped, and when a master key is not known.
func OpenKeyRing(vault Vault, read func() ([]MasterKey, error)) (*KeyRing, error) {
	k := &KeyRing{
		vault: vault, read: read, known: expirable.NewLRU[uuid.UUID, *Box](rememberedKeys, nil, KeysRememberedFor),
		missed: map[MasterKeyID]uuid.UUID{},
	}
	return k, k.reread()
}

// seal makes the sealed payload of an event: nobody can move it to another event unnoticed.
func (k *KeyRing) seal(ctx context.Context, e NewEvent, disclosure []byte) ([]byte, error) {
	key, err := k.ensure(ctx, e.AccountID)
	if err != nil {
		return nil, err
	}
	return sealPayload(key, e, disclosure), nil
}

// SealPlain returns the sealed payload that says what an event's plain one says, so that its commitment stays true, or stays
// broken when the payload was altered. When the event's account was erased, nobody can open it.
func (k *KeyRing) SealPlain(ctx context.Context, e NewEvent) ([]byte, error) {
	disclosure, ok := PlainDisclosure(e.Data)
	if !ok {
		return nil, ErrUnknownForm
	}
	data, err := k.seal(ctx, e, disclosure)
	if errors.Is(err, ErrErased) {
		return sealPayload(NewBox(newDataKey()), e, disclosure), nil
	}
	return data, err
}

// open returns the disclosure of a sealed payload, or ErrErased.
func (k *KeyRing) open(ctx context.Context, e NewEvent) ([]byte, error) {
	key, err := k.find(ctx, e.AccountID)
	if err != nil {
		return nil, err
	}
	return openSealed(key, e)
}

func sealPayload(key *Box, e NewEvent, disclosure []byte) []byte {
	return key.Seal([]byte{formSealed}, disclosure, e.ID[:], []byte(e.Type))
}

func openSealed(key *Box, e NewEvent) ([]byte, error) {
	disclosure, err := key.Open(e.Data[1:], e.ID[:], []byte(e.Type))
	if err != nil {
		return nil, fmt.Errorf("the payload of event %s cannot be opened: it or its key was altered", e.ID)
	}
	return disclosure, nil
}

// find returns an account's data key, or ErrErased.
func (k *KeyRing) find(ctx context.Context, account uuid.UUID) (key *Box, err error) {
	if _, told := k.erased.Load(account); told {
		return nil, ErrErased
	}
	key, known := k.known.Get(account)
	if !known {
		if key, err = k.load(ctx, account); err != nil {
			return nil, err
		}
		k.known.Add(account, key) // that there is none as well: a rebuild meets the events of an erased account by thousands
	}
	if key == nil {
		return nil, ErrErased
	}
	return key, nil
}

// load reads an account's data key from the vault. It is nil when the account was erased: only the vault's own word for it
// counts, so that a vault that was lost or restored in part is not taken for many erasures.
func (k *KeyRing) load(ctx context.Context, account uuid.UUID) (*Box, error) {
	wrapped, err := k.vault.Get(ctx, account, DataKeySecret)
	if errors.Is(err, ErrNoSecret) {
		erased, err := k.vault.Erased(ctx, account)
		if err == nil && !erased {
			err = fmt.Errorf("account %s: %w", account, errNoDataKey)
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return k.unwrap(account, wrapped)
}

// ensure is find for an account that may be so new that it has no key yet.
func (k *KeyRing) ensure(ctx context.Context, account uuid.UUID) (*Box, error) {
	key, err := k.find(ctx, account)
	if !errors.Is(err, errNoDataKey) {
		return key, err
	}
	fresh := newDataKey()
	_ = k.reread() // a key that was replaced must wrap nothing more; when there is nothing to read, what is known goes on
	kept, err := k.vault.PutNew(ctx, account, DataKeySecret, k.wrap(account, fresh))
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
	wrapped, err := k.vault.PutNew(ctx, uuid.Nil, DataKeySecret, k.wrap(uuid.Nil, newDataKey()))
	if err != nil {
		return key, err
	}
	secret, err := k.unwrapKey(uuid.Nil, wrapped)
	if err != nil {
		return key, err
	}
	derived, err := hkdf.Expand(sha256.New, secret[:], purpose, len(key))
	copy(key[:], derived)
	return key, err
}

// Erase destroys an account's data key and every other secret of it, for ever. Other processes know within
// KeysRememberedFor, and at once when they are told.
func (k *KeyRing) Erase(ctx context.Context, account uuid.UUID) error {
	k.NoteErased(account)
	return k.vault.Erase(ctx, account)
}

// NoteErased tells the ring that an account is being erased, by whatever process: nothing of it is sealed or opened here
// from now on.
func (k *KeyRing) NoteErased(account uuid.UUID) {
	k.erased.Store(account, true)
	k.known.Remove(account)
}

// Erased tells whether an account was erased. Mostly it is answered from memory.
func (k *KeyRing) Erased(ctx context.Context, account uuid.UUID) (bool, error) {
	_, err := k.find(ctx, account)
	switch {
	case errors.Is(err, ErrErased):
		return true, nil
	case errors.Is(err, errNoDataKey):
		return false, nil
	}
	return false, err
}

func newDataKey() (key DataKey) {
	_, _ = rand.Read(key[:]) // never fails, by its contract
	return key
}

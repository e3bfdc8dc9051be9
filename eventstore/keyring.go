package eventstore

import (
	"context"
	"crypto/cipher"
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
	"golang.org/x/crypto/chacha20poly1305"
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

// OtherMasterKey answers for an account whose data key is wrapped by a master key that is not among those given.
type OtherMasterKey struct{ ID MasterKeyID }

func (e *OtherMasterKey) Error() string {
	return fmt.Sprintf("it is wrapped by another master key (%s) than those given", e.ID)
}

// KeyRing seals the payloads of accounts. Each account has a data key of its own in the vault, wrapped by a master key
// (XChaCha20-Poly1305, both). When an account's key is destroyed, what was sealed for it can never be read again.
type KeyRing struct {
	vault  Vault
	read   func() ([]MasterKey, error)
	known  *expirable.LRU[uuid.UUID, cipher.AEAD] // nil for an account that was erased
	erased sync.Map                               // the ids of accounts that this process was told to be erased

	mu      sync.Mutex
	masters []MasterKey // the first one wraps new keys, all of them unwrap
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
		vault: vault, read: read, known: expirable.NewLRU[uuid.UUID, cipher.AEAD](rememberedKeys, nil, KeysRememberedFor),
	}
	return k, k.reread()
}

// reread takes over the master keys as they are now. One that has disappeared unwraps as long as this process lives:
// it may be a mistake, and nobody else may have it.
func (k *KeyRing) reread() error {
	masters, err := k.read()
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.masters {
		if !slices.Contains(masters, m) {
			masters = append(masters, m)
		}
	}
	k.masters = masters
	return nil
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

// find returns an account's data key, or ErrErased.
func (k *KeyRing) find(ctx context.Context, account uuid.UUID) (key cipher.AEAD, err error) {
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
func (k *KeyRing) load(ctx context.Context, account uuid.UUID) (cipher.AEAD, error) {
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
func (k *KeyRing) ensure(ctx context.Context, account uuid.UUID) (cipher.AEAD, error) {
	key, err := k.find(ctx, account)
	if !errors.Is(err, errNoDataKey) {
		return key, err
	}
	var fresh [chacha20poly1305.KeySize]byte
	_, _ = rand.Read(fresh[:]) // never fails, by its contract
	_ = k.reread()             // a key that was replaced must wrap nothing more; when there is nothing to read, what is known goes on
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
	var fresh [chacha20poly1305.KeySize]byte
	_, _ = rand.Read(fresh[:]) // never fails, by its contract
	wrapped, err := k.vault.PutNew(ctx, uuid.Nil, DataKeySecret, k.wrap(uuid.Nil, fresh))
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

func (k *KeyRing) wrap(account uuid.UUID, key [chacha20poly1305.KeySize]byte) []byte {
	master := k.newest()
	id := master.ID()
	var nonce [chacha20poly1305.NonceSizeX]byte
	_, _ = rand.Read(nonce[:]) // never fails, by its contract
	return master.aead().Seal(slices.Concat(id[:], nonce[:]), nonce[:], key[:], account[:])
}

func (k *KeyRing) newest() MasterKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.masters[0]
}

func (k *KeyRing) unwrap(account uuid.UUID, wrapped []byte) (cipher.AEAD, error) {
	key, err := k.unwrapKey(account, wrapped)
	if err != nil {
		return nil, err
	}
	return newAEAD(key), nil
}

func (k *KeyRing) unwrapKey(account uuid.UUID, wrapped []byte) ([]byte, error) {
	const nonceBegin = len(MasterKeyID{})
	const nonceEnd = nonceBegin + chacha20poly1305.NonceSizeX
	if len(wrapped) < nonceEnd {
		return nil, fmt.Errorf("the data key of account %s is damaged", account)
	}
	master, err := k.master(MasterKeyID(wrapped))
	if err != nil {
		return nil, fmt.Errorf("the data key of account %s: %w", account, err)
	}
	key, err := master.aead().Open(nil, wrapped[nonceBegin:nonceEnd], wrapped[nonceEnd:], account[:])
	if err != nil {
		return nil, fmt.Errorf("the data key of account %s was altered", account)
	}
	return key, nil
}

// master finds a master key, also one that was added since they were read.
func (k *KeyRing) master(id MasterKeyID) (MasterKey, error) {
	if m, ok := k.lookUp(id); ok {
		return m, nil
	}
	if err := k.reread(); err != nil {
		return MasterKey{}, err
	}
	if m, ok := k.lookUp(id); ok {
		return m, nil
	}
	return MasterKey{}, &OtherMasterKey{id}
}

func (k *KeyRing) lookUp(id MasterKeyID) (MasterKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.masters, func(m MasterKey) bool { return m.ID() == id })
	if i < 0 {
		return MasterKey{}, false
	}
	return k.masters[i], true
}

func newAEAD(key []byte) cipher.AEAD {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // only for a key of another length
	}
	return aead
}

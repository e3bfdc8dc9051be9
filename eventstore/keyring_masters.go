package eventstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

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

func (k *KeyRing) wrap(account uuid.UUID, key DataKey) []byte {
	master := k.newest()
	id := master.ID()
	return NewBox(master).Seal(id[:], key[:], account[:])
}

func (k *KeyRing) newest() MasterKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.masters[0]
}

func (k *KeyRing) unwrap(account uuid.UUID, wrapped []byte) (*Box, error) {
	key, err := k.unwrapKey(account, wrapped)
	if err != nil {
		return nil, err
	}
	return NewBox(key), nil
}

func (k *KeyRing) unwrapKey(account uuid.UUID, wrapped []byte) (key DataKey, err error) {
	if len(wrapped) < len(MasterKeyID{}) {
		return key, fmt.Errorf("the data key of account %s is damaged", account)
	}
	master, err := k.master(MasterKeyID(wrapped), account)
	if err != nil {
		return key, fmt.Errorf("the data key of account %s: %w", account, err)
	}
	content, err := NewBox(master).Open(wrapped[len(MasterKeyID{}):], account[:])
	if err != nil || len(content) != len(key) {
		return key, fmt.Errorf("the data key of account %s was altered", account)
	}
	return DataKey(content), nil
}

// NoMasterKeyError says that this process lacks a master key. It comes with a rotation on another server, and goes when the
// key is here.
type NoMasterKeyError struct{ ID MasterKeyID }

func (e *NoMasterKeyError) Error() string {
	return fmt.Sprintf("it is wrapped by another master key (%s) than those given", e.ID)
}

// Unwrap is the refusal for whoever asked this server.
func (e *NoMasterKeyError) Unwrap() error {
	return domain.Errorf(domain.Unavailable, "This server lacks the master key %s, under which data is sealed since voltrun keys rotate ran "+
		"on another server. Copy that server's file master_key into the data folder of this one, which reads it at once. "+
		"Where VOLTRUN_MASTER_KEY is set, put the key in front there and restart this server.", e.ID)
}

// master finds the master key for an account, also one that was added since they were read.
func (k *KeyRing) master(id MasterKeyID, account uuid.UUID) (MasterKey, error) {
	if m, ok := k.lookUp(id); ok {
		return m, nil
	}
	if err := k.reread(); err != nil {
		return MasterKey{}, err
	}
	if m, ok := k.lookUp(id); ok {
		return m, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.missed[id] = account
	return MasterKey{}, &NoMasterKeyError{id}
}

// Ready tells whether the master keys are here that this process has missed before, and the one of the system's own data key,
// which a rotation wraps first. It answers a *NoMasterKeyError when one is not.
func (k *KeyRing) Ready(ctx context.Context) error {
	k.mu.Lock()
	missed := maps.Clone(k.missed)
	k.mu.Unlock()
	for id, account := range missed {
		if err := k.unwraps(ctx, account); err != nil {
			return err
		}
		k.mu.Lock()
		delete(k.missed, id)
		k.mu.Unlock()
	}
	return k.unwraps(ctx, uuid.Nil)
}

// unwraps tells whether the account's data key can be unwrapped, if it has one.
func (k *KeyRing) unwraps(ctx context.Context, account uuid.UUID) error {
	wrapped, err := k.vault.Get(ctx, account, DataKeySecret)
	if errors.Is(err, ErrNoSecret) {
		return nil
	}
	if err == nil {
		_, err = k.unwrapKey(account, wrapped)
	}
	return err
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

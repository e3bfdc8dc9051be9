package eventstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// Wrapped is where all wrapped data keys can be reached, to change the master key that wraps them.
type Wrapped interface {
	// Rewrap replaces every secret of that name that does not begin with newest by what rewrap makes of it. It does so in
	// steps, each of which is whole, and tells report how many it has replaced so far.
	Rewrap(ctx context.Context, name string, newest []byte, rewrap func(owner uuid.UUID, secret []byte) ([]byte, error), report func(done int)) error
	// CountByPrefix tells how many secrets of that name begin with each prefix of so many bytes.
	CountByPrefix(ctx context.Context, name string, bytes int) (map[string]int, error)
}

// Rotate wraps every data key by the newest master key that is wrapped by another one. The data keys themselves stay, and
// with them everything that is sealed. Wherever it ends, every key can be unwrapped by one of the master keys, and the next
// call goes on from there. report hears how many are done so far.
func (k *KeyRing) Rotate(ctx context.Context, all Wrapped, report func(done int)) error {
	if err := k.reread(); err != nil {
		return err
	}
	newest := k.newest().ID()
	return all.Rewrap(ctx, DataKeySecret, newest[:], k.rewrap, report)
}

func (k *KeyRing) rewrap(account uuid.UUID, wrapped []byte) ([]byte, error) {
	key, err := k.unwrapKey(account, wrapped)
	if err != nil {
		return nil, err
	}
	return k.wrap(account, key), nil
}

// CountDataKeys tells how many data keys each master key wraps.
func CountDataKeys(ctx context.Context, all Wrapped) (map[MasterKeyID]int, error) {
	counts := map[MasterKeyID]int{}
	byPrefix, err := all.CountByPrefix(ctx, DataKeySecret, len(MasterKeyID{}))
	for prefix, n := range byPrefix {
		if len(prefix) != len(MasterKeyID{}) {
			return nil, fmt.Errorf("%d data keys are damaged", n)
		}
		counts[MasterKeyID([]byte(prefix))] += n
	}
	return counts, err
}

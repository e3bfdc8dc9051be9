package storetest

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
)

// RunVault checks a vault's promises: the newest secret of a name counts, and what is forgotten is gone, of that owner
// and of no other.
func RunVault(t *testing.T, v eventstore.Vault) {
	ctx := context.Background()
	owner, other := uuid.New(), uuid.New()
	_, err := v.Get(ctx, owner, "password")
	require.ErrorIs(t, err, eventstore.ErrNoSecret)

	require.NoError(t, v.Put(ctx, owner, "password", []byte("old")))
	require.NoError(t, v.Put(ctx, owner, "password", []byte("new\x00")))
	require.NoError(t, v.Put(ctx, owner, "data key", []byte{0, 255}))
	require.NoError(t, v.Put(ctx, other, "password", []byte("theirs")))
	secret, err := v.Get(ctx, owner, "password")
	require.NoError(t, err)
	require.Equal(t, []byte("new\x00"), secret)

	require.NoError(t, v.Forget(ctx, owner))
	for _, name := range []string{"password", "data key"} {
		_, err = v.Get(ctx, owner, name)
		require.ErrorIs(t, err, eventstore.ErrNoSecret, name)
	}
	secret, err = v.Get(ctx, other, "password")
	require.NoError(t, err)
	require.Equal(t, []byte("theirs"), secret)
}

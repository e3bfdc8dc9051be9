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

	kept, err := v.PutNew(ctx, owner, "data key", []byte("first"))
	require.NoError(t, err)
	require.Equal(t, []byte("first"), kept, "who was forgotten may come again")
	kept, err = v.PutNew(ctx, owner, "data key", []byte("second"))
	require.NoError(t, err)
	require.Equal(t, []byte("first"), kept, "the first one stays")

	requireErased := func(want bool, owner uuid.UUID) {
		erased, err := v.Erased(ctx, owner)
		require.NoError(t, err)
		require.Equal(t, want, erased)
	}
	requireErased(false, owner)
	require.NoError(t, v.Erase(ctx, owner))
	requireErased(true, owner)
	requireErased(false, other)
	_, err = v.Get(ctx, owner, "data key")
	require.ErrorIs(t, err, eventstore.ErrNoSecret)
	_, err = v.PutNew(ctx, owner, "data key", []byte("third"))
	require.ErrorIs(t, err, eventstore.ErrNoSecret, "who was erased stays erased")
	require.NoError(t, v.Erase(ctx, owner), "twice is as good as once")
	secret, err = v.Get(ctx, other, "password")
	require.NoError(t, err)
	require.Equal(t, []byte("theirs"), secret)
}

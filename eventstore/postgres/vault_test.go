package postgres_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

func TestPostgresVaultKeepsTheContract(t *testing.T) {
	storetest.RunVault(t, openStore(t, pgtest.Database(t)))
}

func TestEveryProcessIsToldOfAnErasure(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	here, there := openStore(t, dsn), openStore(t, dsn)
	told := make(chan uuid.UUID, 2)
	here.OnErase(func(owner uuid.UUID) { told <- owner })
	there.OnErase(func(owner uuid.UUID) { told <- owner })
	owner := uuid.New()
	require.NoError(t, here.Erase(t.Context(), owner))
	for range 2 {
		select {
		case got := <-told:
			require.Equal(t, owner, got)
		case <-time.After(10 * time.Second):
			t.Fatal("a process was not told")
		}
	}
}

// sealSome gives so many accounts a data key each and returns what is sealed under them.
func sealSome(t *testing.T, store *postgres.Store, master eventstore.MasterKey, n int) []eventstore.NewEvent {
	t.Helper()
	codec := eventstore.DomainCodec(eventstore.NewKeyRing(store, master))
	sealed := make([]eventstore.NewEvent, n)
	for i := range sealed {
		var err error
		sealed[i], err = codec.Encode(t.Context(), uuid.New(), domain.FunctionDeleted{}, eventstore.Metadata{AccountID: uuid.New()})
		require.NoError(t, err)
	}
	return sealed
}

func requireReadable(t *testing.T, keys *eventstore.KeyRing, sealed []eventstore.NewEvent) {
	t.Helper()
	codec := eventstore.DomainCodec(keys)
	for _, e := range sealed {
		fact, err := codec.Decode(t.Context(), e)
		require.NoError(t, err)
		require.Equal(t, domain.FunctionDeleted{}, fact)
	}
}

func requireCounts(t *testing.T, store *postgres.Store, want map[eventstore.MasterKeyID]int) {
	t.Helper()
	counts, err := eventstore.CountDataKeys(t.Context(), store)
	require.NoError(t, err)
	require.Equal(t, want, counts)
}

// The rotation is ended after each of its steps, as by a kill, and taken up again.
func TestARotationThatIsInterruptedLosesNothingAndGoesOn(t *testing.T) {
	t.Parallel()
	store := openStore(t, pgtest.Database(t))
	old, next := eventstore.MasterKey{1}, eventstore.MasterKey{2}
	const accounts = 1200
	sealed := sealSome(t, store, old, accounts)
	require.NoError(t, store.Erase(t.Context(), sealed[0].AccountID))
	requireCounts(t, store, map[eventstore.MasterKeyID]int{old.ID(): accounts - 1})

	for done := 0; done < accounts-1; {
		ctx, kill := context.WithCancel(t.Context())
		err := eventstore.NewKeyRing(store, next, old).Rotate(ctx, store, func(n int) { done += n; kill() })
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		kill()
		requireReadable(t, eventstore.NewKeyRing(store, next, old), sealed[1:])
	}
	requireCounts(t, store, map[eventstore.MasterKeyID]int{next.ID(): accounts - 1})
	requireReadable(t, eventstore.NewKeyRing(store, next), sealed[1:])
	fact, err := eventstore.DomainCodec(eventstore.NewKeyRing(store, next)).Decode(t.Context(), sealed[0])
	require.NoError(t, err)
	require.Equal(t, domain.Redacted{Type: "function.deleted"}, fact, "who was erased stays erased")
}

func TestARotationStopsAtAKeyThatItCannotUnwrap(t *testing.T) {
	t.Parallel()
	store := openStore(t, pgtest.Database(t))
	lost, next := eventstore.MasterKey{1}, eventstore.MasterKey{2}
	sealSome(t, store, lost, 3)
	err := eventstore.NewKeyRing(store, next).Rotate(t.Context(), store, func(int) {})
	require.ErrorContains(t, err, lost.ID().String())
	requireCounts(t, store, map[eventstore.MasterKeyID]int{lost.ID(): 3})
	require.NoError(t, store.Put(t.Context(), uuid.New(), eventstore.DataKeySecret, bytes.Repeat([]byte{1}, 3)))
	_, err = eventstore.CountDataKeys(t.Context(), store)
	require.ErrorContains(t, err, "damaged")
}

// A backup has begun, and comes to the vault only when that was rewritten.
func TestAVaultThatIsRewrittenIsWholeForEverybody(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	store := openStore(t, dsn)
	sealed := sealSome(t, store, eventstore.MasterKey{1}, 3)
	backup := connect(t, dsn)
	tx, err := backup.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	count := func(what string) (n int) {
		require.NoError(t, tx.QueryRow(t.Context(), "select count(*) from "+what).Scan(&n))
		return n
	}
	require.Zero(t, count("events")) // its snapshot is taken now

	require.NoError(t, store.Erase(t.Context(), sealed[0].AccountID))
	require.NoError(t, store.RewriteVault(t.Context()))
	require.Equal(t, 3, count("vault"), "two keys and the mark of an erasure")
	requireReadable(t, eventstore.NewKeyRing(store, eventstore.MasterKey{1}), sealed[1:])
	err = store.RewriteVault(t.Context())
	require.ErrorContains(t, err, "lock timeout", "the backup reads it now")
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, store.RewriteVault(t.Context()))
}

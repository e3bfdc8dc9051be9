package eventstore_test

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
)

var said = domain.FunctionDeleted{}

func sealedFor(t *testing.T, codec *eventstore.Codec, account uuid.UUID, event domain.Event) eventstore.NewEvent {
	t.Helper()
	encoded, err := codec.Encode(t.Context(), uuid.New(), event, eventstore.Metadata{AccountID: account})
	require.NoError(t, err)
	return encoded
}

func TestWhatAnAccountSaysIsSealedUnderItsKey(t *testing.T) {
	vault := memory.New()
	codec := eventstore.DomainCodec(eventstore.NewKeyRing(vault, eventstore.MasterKey{1}))
	account := uuid.New()
	event := domain.AccountRegistered{AccountID: account, Email: "canary@example.com", Name: "Canary"}
	encoded := sealedFor(t, codec, account, event)
	require.NotContains(t, string(encoded.Data), "anary")
	decoded, err := codec.Decode(t.Context(), encoded)
	require.NoError(t, err)
	require.Equal(t, event, decoded)
	disclosure, err := codec.Disclose(t.Context(), encoded)
	require.NoError(t, err)
	require.Equal(t, encoded.Commitment, eventstore.Commit(disclosure))

	again := sealedFor(t, codec, account, event)
	require.NotEqual(t, encoded.Commitment, again.Commitment, "a commitment does not tell what it is to")

	other := eventstore.DomainCodec(eventstore.NewKeyRing(vault, eventstore.MasterKey{1}))
	decoded, err = other.Decode(t.Context(), encoded)
	require.NoError(t, err)
	require.Equal(t, event, decoded, "another process has the same keys")
}

func TestAPayloadCannotBeMovedToAnotherEventOrAccount(t *testing.T) {
	codec := eventstore.DomainCodec(eventstore.NewKeyRing(memory.New(), eventstore.MasterKey{1}))
	account := uuid.New()
	encoded := sealedFor(t, codec, account, said)
	sealedFor(t, codec, uuid.MustParse("01900000-0000-7000-8000-000000000009"), said) // another account with a key
	for name, change := range map[string]func(*eventstore.NewEvent){
		"another event":   func(e *eventstore.NewEvent) { e.ID = uuid.New() },
		"another type":    func(e *eventstore.NewEvent) { e.Type = "key.deleted" },
		"another account": func(e *eventstore.NewEvent) { e.AccountID = uuid.MustParse("01900000-0000-7000-8000-000000000009") },
		"another content": func(e *eventstore.NewEvent) { e.Data[len(e.Data)-1] ^= 1 },
		"no content":      func(e *eventstore.NewEvent) { e.Data = e.Data[:3] },
		"no form":         func(e *eventstore.NewEvent) { e.Data = []byte("{}") },
	} {
		altered := encoded
		altered.Data = bytes.Clone(encoded.Data)
		change(&altered)
		_, err := codec.Decode(t.Context(), altered)
		require.Error(t, err, name)
	}
}

func TestErasedAndArchivedPayloadsDecodeAsSuch(t *testing.T) {
	vault := memory.New()
	keys := eventstore.NewKeyRing(vault, eventstore.MasterKey{1})
	codec := eventstore.DomainCodec(keys)
	account := uuid.New()
	encoded := sealedFor(t, codec, account, said)
	reserved := sealedFor(t, codec, account, domain.EmailReserved{AccountID: account})
	archived := encoded
	archived.Data = nil
	fact, err := codec.Decode(t.Context(), archived)
	require.NoError(t, err)
	require.Equal(t, domain.Archived{Type: "function.deleted"}, fact)

	require.NoError(t, vault.Erase(t.Context(), account))
	keys.Forget(account)
	fact, err = codec.Decode(t.Context(), encoded)
	require.NoError(t, err)
	require.Equal(t, domain.Redacted{Type: "function.deleted"}, fact)
	fact, err = codec.Decode(t.Context(), reserved)
	require.NoError(t, err)
	require.Equal(t, domain.EmailReserved{AccountID: account}, fact, "what holds nothing but ids is not sealed")
	_, err = codec.Encode(t.Context(), uuid.New(), said, eventstore.Metadata{AccountID: account})
	require.ErrorIs(t, err, eventstore.ErrErased, "an erased account gets no new key")
}

func TestDataKeysAreReadWithAnyOfTheMasterKeysAndWithNoOther(t *testing.T) {
	vault := memory.New()
	old := eventstore.MasterKey{1}
	account := uuid.New()
	encoded := sealedFor(t, eventstore.DomainCodec(eventstore.NewKeyRing(vault, old)), account, said)
	fact, err := eventstore.DomainCodec(eventstore.NewKeyRing(vault, eventstore.MasterKey{2}, old)).Decode(t.Context(), encoded)
	require.NoError(t, err)
	require.Equal(t, said, fact)
	_, err = eventstore.DomainCodec(eventstore.NewKeyRing(vault, eventstore.MasterKey{2})).Decode(t.Context(), encoded)
	require.ErrorContains(t, err, "another master key")
}

func TestAMasterKeyIsSixtyFourHexDigits(t *testing.T) {
	for _, text := range []string{"", "00", "zz", string(bytes.Repeat([]byte("g"), 64)), string(bytes.Repeat([]byte("a"), 66))} {
		_, err := eventstore.ParseMasterKey(text)
		require.Error(t, err, text)
	}
	key, err := eventstore.ParseMasterKey(string(bytes.Repeat([]byte("0a"), 32)) + "\n")
	require.NoError(t, err)
	require.Equal(t, byte(10), key[31])
}

func TestASystemKeyIsTheSameForEveryServerAndOutlivesItsMasterKey(t *testing.T) {
	vault := memory.New()
	key := func(purpose string, masters ...eventstore.MasterKey) [32]byte {
		key, err := eventstore.NewKeyRing(vault, masters[0], masters[1:]...).SystemKey(t.Context(), purpose)
		require.NoError(t, err)
		return key
	}
	old, next := eventstore.MasterKey{1}, eventstore.MasterKey{2}
	first := key("idempotency", old)
	require.NotZero(t, first)
	require.Equal(t, first, key("idempotency", old))
	require.Equal(t, first, key("idempotency", next, old), "a new master key changes nothing")
	require.NotEqual(t, first, key("something else", old))
	_, err := eventstore.NewKeyRing(vault, next).SystemKey(t.Context(), "idempotency")
	require.Error(t, err, "nobody gets it without its master key")
}

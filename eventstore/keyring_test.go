package eventstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
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

	require.NoError(t, keys.Erase(t.Context(), account))
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

func TestAnAccountErasedByAnotherProcessIsErasedHereAsSoonAsThisOneIsTold(t *testing.T) {
	vault := memory.New()
	here := eventstore.NewKeyRing(vault, eventstore.MasterKey{1})
	codec, account := eventstore.DomainCodec(here), uuid.New()
	encoded := sealedFor(t, codec, account, said)
	requireErased := func(want bool) {
		erased, err := here.Erased(t.Context(), account)
		require.NoError(t, err)
		require.Equal(t, want, erased)
	}
	requireErased(false)

	there := eventstore.NewKeyRing(vault, eventstore.MasterKey{1})
	require.NoError(t, there.Erase(t.Context(), account))
	requireErased(false) // remembered, for KeysRememberedFor at most
	here.NoteErased(account)
	requireErased(true)
	fact, err := codec.Decode(t.Context(), encoded)
	require.NoError(t, err)
	require.Equal(t, domain.Redacted{Type: "function.deleted"}, fact)
}

func TestAnAccountWithoutAKeyIsNotTakenForErased(t *testing.T) {
	vault := memory.New()
	account := uuid.New()
	encoded := sealedFor(t, eventstore.DomainCodec(eventstore.NewKeyRing(vault, eventstore.MasterKey{1})), account, said)
	require.NoError(t, vault.Forget(t.Context(), account)) // as if the vault had been lost
	keys := eventstore.NewKeyRing(vault, eventstore.MasterKey{1})
	_, err := eventstore.DomainCodec(keys).Decode(t.Context(), encoded)
	require.ErrorContains(t, err, "restore the table vault")
	erased, err := keys.Erased(t.Context(), account)
	require.NoError(t, err)
	require.False(t, erased)
}

// masterKeys are the keys of a file that changes.
type masterKeys struct{ keys []eventstore.MasterKey }

func (m *masterKeys) read() ([]eventstore.MasterKey, error) {
	if m.keys == nil {
		return nil, errors.New("the file is gone")
	}
	return slices.Clone(m.keys), nil
}

func TestARingReadsItsMasterKeysAgainWhenItMeetsOneThatItDoesNotKnow(t *testing.T) {
	vault := memory.New()
	old, next := eventstore.MasterKey{1}, eventstore.MasterKey{2}
	file := &masterKeys{[]eventstore.MasterKey{old}}
	keys, err := eventstore.OpenKeyRing(vault, file.read)
	require.NoError(t, err)
	codec := eventstore.DomainCodec(keys)
	first := sealedFor(t, codec, uuid.New(), said)

	theirs := uuid.New()
	other := sealedFor(t, eventstore.DomainCodec(eventstore.NewKeyRing(vault, next)), theirs, said)
	_, err = codec.Decode(t.Context(), other)
	require.ErrorContains(t, err, "another master key ("+next.ID().String()+")")
	require.True(t, domain.IsCode(err, domain.Unavailable), "until somebody brings the key")
	var missing *eventstore.NoMasterKeyError
	require.ErrorAs(t, keys.Ready(t.Context()), &missing)
	require.Equal(t, next.ID(), missing.ID)
	file.keys = []eventstore.MasterKey{next, old}
	require.NoError(t, keys.Ready(t.Context()))
	fact, err := codec.Decode(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, said, fact)

	newer := uuid.New()
	sealedFor(t, codec, newer, said)
	wrapped, err := vault.Get(t.Context(), newer, eventstore.DataKeySecret)
	require.NoError(t, err)
	require.Equal(t, next.ID(), eventstore.MasterKeyID(wrapped), "what is new is wrapped by the newest")

	file.keys = nil
	sealedFor(t, codec, uuid.New(), said)
	file.keys = []eventstore.MasterKey{{3}}
	sealedFor(t, codec, uuid.New(), said)
	_, err = codec.Decode(t.Context(), first)
	require.NoError(t, err, "a key that has gone from the file still unwraps")
}

func TestMasterKeysDoNotShowThemselves(t *testing.T) {
	key := eventstore.MasterKey(bytes.Repeat([]byte{7}, 32))
	require.NotContains(t, fmt.Sprintf("%v %s %q", key, key, key), "0707")
	parsed, err := eventstore.ParseMasterKey(key.Hex())
	require.NoError(t, err)
	require.Equal(t, key, parsed)
}

func TestMasterKeysStandOneALineTheNewestFirst(t *testing.T) {
	a, b := eventstore.MasterKey{1}, eventstore.MasterKey{2}
	for _, text := range []string{a.Hex() + "\n" + b.Hex() + "\n", a.Hex() + "," + b.Hex(), a.Hex() + "\r\n\r\n " + b.Hex() + " \r\n"} {
		keys, err := eventstore.ParseMasterKeys(text)
		require.NoError(t, err)
		require.Equal(t, []eventstore.MasterKey{a, b}, keys)
	}
	for _, text := range []string{"", "\n", a.Hex() + b.Hex(), a.Hex() + "\nx"} {
		_, err := eventstore.ParseMasterKeys(text)
		require.Error(t, err, text)
	}
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

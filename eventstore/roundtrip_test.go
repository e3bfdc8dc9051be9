package eventstore_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/domain/domaintest"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

func TestEveryEventComesBackFromItsStoredFormAsItWas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		event := domaintest.Event().Draw(t, "event")
		account := rapid.SampledFrom([]uuid.UUID{uuid.Nil, uuid.New()}).Draw(t, "account")
		require.Equal(t, event, storeAndLoad(t, event, account))
	})
}

// What people send comes back saying the same, however they wrote it.
func TestAnyInputSaysTheSameAfterItWasStored(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := domaintest.JSONText().Draw(t, "input")
		loaded := storeAndLoad(t, domain.ExecutionRequested{Input: json.RawMessage(text)}, uuid.New())
		sent, err := domaintest.Tokens([]byte(text))
		require.NoError(t, err)
		stored, err := domaintest.Tokens(loaded.(domain.ExecutionRequested).Input)
		require.NoError(t, err)
		require.Equal(t, sent, stored)
	})
}

// storeAndLoad writes an event for an account with one codec and reads it with another.
func storeAndLoad(t *rapid.T, event domain.Event, account uuid.UUID) domain.Event {
	vault := memory.New()
	stored, err := storetest.Codec(vault).Encode(t.Context(), uuid.New(), event, eventstore.Metadata{AccountID: account})
	require.NoError(t, err)
	require.Equal(t, event.EventType(), stored.Type)
	loaded, err := storetest.Codec(vault).Decode(t.Context(), stored)
	require.NoError(t, err)
	return loaded
}

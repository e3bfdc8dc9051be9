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
)

func TestEveryEventComesBackFromItsStoredFormAsItWas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		event := domaintest.Event().Draw(t, "event")
		require.Equal(t, event, storeAndLoad(t, event))
	})
}

// What people send comes back saying the same, however they wrote it.
func TestAnyInputSaysTheSameAfterItWasStored(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := domaintest.JSONText().Draw(t, "input")
		loaded := storeAndLoad(t, domain.ExecutionRequested{Input: json.RawMessage(text)})
		sent, err := domaintest.Tokens([]byte(text))
		require.NoError(t, err)
		stored, err := domaintest.Tokens(loaded.(domain.ExecutionRequested).Input)
		require.NoError(t, err)
		require.Equal(t, sent, stored)
	})
}

func storeAndLoad(t *rapid.T, event domain.Event) domain.Event {
	codec := eventstore.DomainCodec()
	stored, err := codec.Encode(uuid.New(), event, eventstore.Metadata{})
	require.NoError(t, err)
	require.Equal(t, event.EventType(), stored.Type)
	loaded, err := codec.Decode(stored)
	require.NoError(t, err)
	return loaded
}

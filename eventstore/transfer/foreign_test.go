package transfer

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// accountFile is a whole and well made export of one account, with a secret and an event of whomever.
func accountFile(t *testing.T, key Key, account, owner, author uuid.UUID) *bytes.Reader {
	t.Helper()
	var file bytes.Buffer
	w := newWriter(&file, key)
	records := []record{
		{Header: &Header{Format: Format, Of: oneAccount, Account: account, KeyID: key.id()}},
		{Secret: &secret{Owner: owner, Name: "password", Sealed: key.box().Seal(nil, []byte("hash"), owner[:], []byte("password"))}},
	}
	codec := storetest.Codec(memory.New())
	add := func(stream, account uuid.UUID, fact domain.Event) {
		e, err := codec.Encode(t.Context(), uuid.New(), fact, eventstore.Metadata{AccountID: account, Actor: domain.Actor{Kind: domain.ActorUser}})
		require.NoError(t, err)
		disclosure, err := codec.Disclose(t.Context(), e)
		require.NoError(t, err)
		out := eventOf(eventstore.Event{StreamID: stream, Version: 1, NewEvent: e})
		out.Data, out.Disclosure = nil, key.box().Seal(nil, disclosure, e.ID[:], []byte(e.Type))
		records = append(records, record{Event: out})
	}
	add(uuid.New(), author, domain.FunctionDeleted{})
	add(uuid.New(), account, domain.EmailReserved{AccountID: account})
	add(account, account, domain.AccountRegistered{AccountID: account, Email: "ada@example.com", Name: "Ada"})
	for _, r := range records {
		require.NoError(t, w.write(r))
	}
	_, err := w.finish()
	require.NoError(t, err)
	return bytes.NewReader(file.Bytes())
}

// Whoever makes an export has its key, and could put anything into it.
func TestAnExportOfAnAccountThatHoldsSomethingOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	key, ada, bob := NewKey(), uuid.New(), uuid.New()
	for name, c := range map[string]struct {
		owner, author uuid.UUID
		says          string
	}{
		"a secret": {bob, ada, "has a secret of " + bob.String()},
		"an event": {ada, bob, "has an event of " + bob.String()},
	} {
		log := memory.New()
		_, err := ImportAccount(t.Context(), log, storetest.Codec(log), key, accountFile(t, key, ada, c.owner, c.author))
		require.ErrorContains(t, err, "nothing was imported: the file is about account "+ada.String(), name)
		require.ErrorContains(t, err, c.says)
		require.Empty(t, storetest.All(t, log), name)
		_, err = log.Get(t.Context(), bob, "password")
		require.ErrorIs(t, err, eventstore.ErrNoSecret, name)
	}
	log := memory.New()
	_, err := ImportAccount(t.Context(), log, storetest.Codec(log), key, accountFile(t, key, ada, ada, ada))
	require.NoError(t, err)
}

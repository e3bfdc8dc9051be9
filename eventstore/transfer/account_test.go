package transfer_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/transfer"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// of are an account's events, by their ids.
func (i instance) of(t *testing.T, account uuid.UUID) map[uuid.UUID]eventstore.Event {
	t.Helper()
	events := map[uuid.UUID]eventstore.Event{}
	for _, e := range i.events(t) {
		if e.AccountID == account {
			require.NotContains(t, events, e.ID, "an event twice")
			events[e.ID] = e
		}
	}
	return events
}

func TestAnAccountMovesToAnotherLogWithItsWholeHistory(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 500), newInstance(t, 2, 500)
	from.live(t, "bob@example.com", 10)
	ada := from.live(t, "ada@example.com", 80)
	from.archiveLines(t)
	before := to.live(t, "grace@example.com", 3)
	head, err := to.store.Head(t.Context())
	require.NoError(t, err)
	leaf := func(p eventstore.Position) []byte { return bytes.Repeat([]byte{byte(p)}, 32) }
	var tile []byte // of the first 256 leaves, as the proof keeps them
	for p := range eventstore.Position(256) {
		tile = append(tile, leaf(p+1)...)
	}
	_, err = from.store.Pool().Exec(t.Context(), "insert into tiles (level, index, hashes) values (0, 0, $1)", tile)
	require.NoError(t, err)

	done, err := to.take(from.exportAccount(t, ada.account, false))
	require.NoError(t, err)
	want, got := from.of(t, ada.account), to.of(t, ada.account)
	require.Len(t, want, done.Events)
	for id, w := range want {
		g := got[id]
		require.Equal(t, w.Commitment, g.Commitment)
		require.Equal(t, w.Actor, g.Actor)
		require.Equal(t, []any{w.StreamID, w.Version, w.Type, w.CorrelationID, w.CausationID}, []any{g.StreamID, g.Version, g.Type, g.CorrelationID, g.CausationID})
		require.Equal(t, w.RecordedAt, g.HappenedAt())
		require.Equal(t, fmt.Sprint(w.Position), g.Headers[eventstore.HeaderPosition])
		if w.Position <= 256 {
			require.Equal(t, hex.EncodeToString(leaf(w.Position)), g.Headers[eventstore.HeaderLeaf])
		} else {
			require.NotContains(t, g.Headers, eventstore.HeaderLeaf, "it has no leaf yet")
		}
		require.False(t, g.RecordedAt.Before(w.RecordedAt))
		disclosure, err := to.codec.Disclose(t.Context(), g.NewEvent)
		require.NoError(t, err)
		require.Equal(t, g.Commitment, eventstore.Commit(disclosure), "what was archived is here too")
		require.Greater(t, g.Position, head)
	}
	fact := to.events(t)[len(to.events(t))-1]
	imported, err := to.codec.Decode(t.Context(), fact.NewEvent)
	require.NoError(t, err)
	require.Equal(t, "voltrun/source", imported.(domain.AccountImported).Source)
	require.Equal(t, done.Events, imported.(domain.AccountImported).Events)

	to.requireLife(t, ada)
	to.requireLife(t, before)
	_, err = to.take(from.exportAccount(t, ada.account, false))
	require.ErrorContains(t, err, "is here already")
}

// Lists are in the order of what happened, and so are their times, although the log has them all at once.
func TestWhatWasImportedShowsItsOwnTimesAndOrder(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 1000), newInstance(t, 2, 1000)
	ada := from.live(t, "ada@example.com", 12)
	read := func(i instance) projections.Page[projections.Execution] {
		projectionstest.CatchUp(t, i.store, projectionstest.Follow(t, i.store, i.codec, projections.All()))
		page, err := projections.NewQueries(i.store.Pool()).Executions.List(t.Context(), ada.account, projections.ExecutionFilter{}, projections.PageRequest{Limit: 20})
		require.NoError(t, err)
		return page
	}
	file := from.exportAccount(t, ada.account, false)
	_, err := to.take(file)
	require.NoError(t, err)
	require.Equal(t, read(from), read(to))
}

// An executor that sees a request before its end would run it again.
func TestAnExecutionIsImportedInOneAppend(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 10_000), newInstance(t, 2, 10_000)
	ada := from.live(t, "ada@example.com", 120)
	_, err := to.take(from.exportAccount(t, ada.account, false))
	require.NoError(t, err)
	var functionAt eventstore.Position
	last := map[uuid.UUID]eventstore.Event{}
	for _, e := range to.events(t) {
		if before, ok := last[e.StreamID]; ok && before.Type[:10] == "execution." {
			require.Equal(t, before.Position+1, e.Position)
			require.Equal(t, before.RecordedAt, e.RecordedAt)
		}
		last[e.StreamID] = e
		if e.Type == "function.updated" {
			functionAt = e.Position
		}
		if e.Type == "execution.requested" {
			require.NotZero(t, functionAt, "its function is there before")
		}
	}
}

func TestExecutionsThatHaveNotEndedStayUnlessTheyAreWanted(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 1000), newInstance(t, 2, 1000)
	ada := from.live(t, "ada@example.com", 1)
	waiting := from.request(t, ada.account, ada.function)
	var out bytes.Buffer
	_, err := from.source().ExportAccount(t.Context(), key, ada.account, transfer.AccountOptions{}, &out)
	require.ErrorContains(t, err, "1 of its executions have not ended")
	require.Empty(t, out.Bytes())
	_, err = to.take(from.exportAccount(t, ada.account, true))
	require.NoError(t, err)
	_, err = to.ClaimExecution.Handle(t.Context(), waiting, uuid.New())
	require.NoError(t, err, "it waits for a worker here")
}

func TestAnAccountIsNotImportedWhereItsAddressIsTaken(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 1000), newInstance(t, 2, 1000)
	ada := from.live(t, "ada@example.com", 1)
	theirs := to.register(t, "ADA@example.com")
	before := to.events(t)
	_, err := to.take(from.exportAccount(t, ada.account, false))
	require.ErrorContains(t, err, "the email address ada@example.com belongs to another account here ("+theirs.String()+")")
	require.Equal(t, before, to.events(t))
}

func TestAnAccountThatIsNotThereOrWasErasedIsNotExported(t *testing.T) {
	t.Parallel()
	from := newInstance(t, 1, 1000)
	from.live(t, "ada@example.com", 1)
	var out bytes.Buffer
	_, err := from.source().ExportAccount(t.Context(), key, uuid.New(), transfer.AccountOptions{}, &out)
	require.ErrorContains(t, err, "there is no such account")
	require.Empty(t, out.Bytes())
}

func TestPayloadsWhoseArchiveIsNotHereKeepAnAccountFromBeingExported(t *testing.T) {
	t.Parallel()
	from := newInstance(t, 1, 500)
	ada := from.live(t, "ada@example.com", 100)
	from.archiveLines(t)
	var out bytes.Buffer
	_, err := from.source().ExportAccount(t.Context(), key, ada.account, transfer.AccountOptions{}, &out)
	require.ErrorContains(t, err, "is in a file of the archive that is not here")
}

// failing is a log that breaks after so many appends.
type failing struct {
	transfer.Log
	left int
}

func (f *failing) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	if f.left--; f.left < 0 {
		return 0, errors.New("the database is gone")
	}
	return f.Log.Append(ctx, writes...)
}

func TestAnImportThatDidNotComeToItsEndGoesOn(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 20_000), newInstance(t, 2, 20_000)
	ada := from.live(t, "ada@example.com", 180)
	file := from.exportAccount(t, ada.account, false)
	appends := 0
	for ; ; appends++ {
		_, err := transfer.ImportAccount(t.Context(), &failing{to.store, appends}, to.codec, key, bytes.NewReader(file))
		if err == nil {
			break
		}
		require.ErrorContains(t, err, "import the same file again to go on")
		_, err = to.LogIn.Handle(t.Context(), origin, domain.LogIn{Email: ada.email, Password: password})
		require.Error(t, err, "nobody can log in yet")
	}
	require.Greater(t, appends, 3)
	require.Len(t, to.of(t, ada.account), len(from.of(t, ada.account))+1)
	to.requireLife(t, ada)
}

func TestAnImportThatDidNotComeToItsEndCanBeGivenUp(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 20_000), newInstance(t, 2, 20_000)
	ada := from.live(t, "ada@example.com", 180)
	stays := to.live(t, "grace@example.com", 2)
	file := from.exportAccount(t, ada.account, false)
	abandon := func(account uuid.UUID) error {
		return transfer.AbandonAccount(t.Context(), to.store, to.codec, account)
	}
	require.ErrorContains(t, abandon(ada.account), "nothing of it was imported here")
	_, err := transfer.ImportAccount(t.Context(), &failing{to.store, 2}, to.codec, key, bytes.NewReader(file))
	require.ErrorContains(t, err, "voltrun import --abandon "+ada.account.String())
	live := projectionstest.Follow(t, to.store, to.codec, projections.All())
	projectionstest.CatchUp(t, to.store, live)
	queries := projections.NewQueries(to.store.Pool())
	_, err = queries.Functions.Get(t.Context(), ada.account, ada.function)
	require.NoError(t, err, "a part of it is here")

	require.NoError(t, abandon(ada.account))
	projectionstest.CatchUp(t, to.store, live)
	_, err = queries.Functions.Get(t.Context(), ada.account, ada.function)
	require.Error(t, err)
	for _, e := range to.of(t, ada.account) {
		fact, err := to.codec.Decode(t.Context(), e.NewEvent)
		require.NoError(t, err)
		if e.Type != (domain.AccountErased{}).EventType() {
			require.Equal(t, domain.Redacted{Type: e.Type}, fact)
		}
	}
	require.ErrorContains(t, abandon(ada.account), "was erased")
	require.ErrorContains(t, abandon(stays.account), "it is here")
	_, err = to.take(file)
	require.ErrorContains(t, err, "is here already, or was")
	to.register(t, ada.email) // it never belonged to the one that was given up
	to.requireLife(t, stays)
}

// A long stream that is none of an execution comes in parts.
func TestALongStreamIsImportedInParts(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 20_000), newInstance(t, 2, 20_000)
	ada := from.live(t, "ada@example.com", 1)
	var uses eventstore.Write
	for e := range from.store.ReadAll(t.Context(), 0) {
		if e.Type == (domain.KeyUsed{}).EventType() {
			uses = eventstore.Write{StreamID: e.StreamID, Expected: eventstore.Any}
			for range 3999 {
				use, err := from.codec.Encode(t.Context(), uuid.New(), domain.KeyUsed{KeyID: ada.key.ID, At: time.Now()}, e.Metadata)
				require.NoError(t, err)
				uses.Events = append(uses.Events, use)
			}
		}
	}
	_, err := from.store.Append(t.Context(), uses)
	require.NoError(t, err)
	_, err = to.take(from.exportAccount(t, ada.account, false))
	require.NoError(t, err)
	require.Len(t, to.of(t, ada.account), len(from.of(t, ada.account))+1)
	require.Equal(t, from.lastUse(t, ada), to.lastUse(t, ada), "it follows the key that it says something about")
}

// lastUse is when a key was used last, as it is shown.
func (i instance) lastUse(t *testing.T, l life) time.Time {
	t.Helper()
	projectionstest.CatchUp(t, i.store, projectionstest.Follow(t, i.store, i.codec, projections.All()))
	found, err := projections.NewQueries(i.store.Pool()).Keys.Find(t.Context(), l.key.Prefix, commands.HashKey(l.key.Key))
	require.NoError(t, err)
	require.NotNil(t, found.LastUsed)
	return *found.LastUsed
}

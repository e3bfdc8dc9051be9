package proof

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// history is a log of its own with a keeper, which signs when the test says so.
type history struct {
	testing.TB
	dsn      string
	store    *postgres.Store
	codec    *eventstore.Codec
	archive  eventstore.Archive
	key      *Key
	witness  Witness
	keeper   *Keeper
	accounts []uuid.UUID
}

func newHistory(t testing.TB) *history {
	t.Helper()
	h := &history{TB: t, dsn: pgtest.Database(t), key: newKey(t), witness: Witness{filepath.Join(t.TempDir(), "heads.log")}}
	_, err := postgres.Migrate(context.Background(), h.dsn)
	require.NoError(t, err)
	h.store, err = postgres.Open(context.Background(), h.dsn, uuid.New(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(h.store.Close)
	h.codec = storetest.Codec(h.store)
	h.keeper = NewKeeper(h.store, h.key, h.witness, slog.New(slog.DiscardHandler))
	h.accounts = []uuid.UUID{uuid.New(), uuid.New()}
	return h
}

func newKey(t testing.TB) *Key {
	t.Helper()
	key, err := ParseKey(GenerateKey())
	require.NoError(t, err)
	return key
}

// eventsOfAnExecution is how many events an execution has.
const eventsOfAnExecution = 5

// execution is an execution of an account, from its request to its end.
func (h *history) execution(account uuid.UUID) eventstore.Write {
	h.Helper()
	id := uuid.New()
	actor := domain.Actor{Kind: domain.ActorAPIKey, ID: uuid.New(), Prefix: "vr_012345678"}
	return h.write(id, account, actor,
		domain.ExecutionRequested{ExecutionID: id, AccountID: account, FunctionName: "greet", Runtime: "nodejs", Input: []byte(`{"name":"Ada"}`)},
		domain.ExecutionStarted{WorkerID: uuid.New()},
		domain.ExecutionLogLine{Stream: domain.Stdout, Text: "Hello, Ada! ✓ <\u2028>\n", At: time.Now().UTC()},
		domain.ExecutionLogLine{Stream: domain.Stderr, Text: strings.Repeat("long ", 100), At: time.Now().UTC()},
		domain.ExecutionCompleted{Output: []byte(`"done"`), DurationMS: 3})
}

func (h *history) write(stream, account uuid.UUID, actor domain.Actor, facts ...domain.Event) eventstore.Write {
	h.Helper()
	write := eventstore.Write{StreamID: stream, Expected: eventstore.Any}
	for _, fact := range facts {
		event, err := h.codec.Encode(h.Context(), uuid.New(), fact, eventstore.Metadata{AccountID: account, Actor: actor, CorrelationID: uuid.New()})
		require.NoError(h, err)
		write.Events = append(write.Events, event)
	}
	return write
}

// erase destroys an account's key, as the log says.
func (h *history) erase(account uuid.UUID) {
	h.Helper()
	system := domain.Actor{Kind: domain.ActorSystem}
	_, err := h.store.Append(h.Context(), h.write(account, account, system, domain.AccountErased{AccountID: account}))
	require.NoError(h, err)
	require.NoError(h, h.store.Erase(h.Context(), account))
	h.codec = storetest.Codec(h.store) // which remembers no key
}

// grow appends at least so many events: executions of the accounts in turns, some without an account, and one with headers.
func (h *history) grow(events int) {
	h.Helper()
	system := domain.Actor{Kind: domain.ActorSystem}
	var writes []eventstore.Write
	for n := 0; n < events; n += eventsOfAnExecution {
		writes = append(writes, h.execution(h.accounts[n%len(h.accounts)]))
		if n%100 == 0 {
			writes = append(writes, h.write(uuid.New(), uuid.Nil, system, domain.EmailReserved{AccountID: h.accounts[0]}))
		}
	}
	withHeaders := h.write(uuid.New(), uuid.Nil, system, domain.EmailReserved{AccountID: h.accounts[1]})
	withHeaders.Events[0].Headers = map[string]string{"traceparent": "00-ab"}
	for part := range slices.Chunk(append(writes, withHeaders), 100) {
		_, err := h.store.Append(h.Context(), part...)
		require.NoError(h, err)
	}
}

// sign lets the keeper catch up and returns the newest head.
func (h *history) sign() Head {
	h.Helper()
	for {
		head, more, err := h.keeper.turn(h.Context())
		require.NoError(h, err)
		if !more {
			return head
		}
	}
}

// signed is a history of some hundred events in several heads, and the newest of them.
func signed(t testing.TB) (*history, Head) {
	h := newHistory(t)
	for range 3 {
		h.grow(300)
		h.sign()
	}
	return h, h.sign()
}

func (h *history) length() int64 {
	h.Helper()
	head, err := h.store.Head(h.Context())
	require.NoError(h, err)
	return int64(head)
}

// tamper runs statements as the superuser of the database, past every trigger.
func (h *history) tamper(statements ...string) {
	h.Helper()
	conn, err := h.store.Pool().Acquire(h.Context())
	require.NoError(h, err)
	defer conn.Release()
	_, err = conn.Exec(h.Context(), "set session_replication_role = replica; "+strings.Join(statements, "; ")+"; set session_replication_role = origin")
	require.NoError(h, err)
}

// verify checks the log with everything that its server has.
func (h *history) verify(change ...func(*Verification)) *Report {
	h.Helper()
	v := Verification{Codec: h.codec, Archive: h.archive, Keys: h.key.PublicKeys, Witness: h.witness.Path}
	for _, f := range change {
		f(&v)
	}
	report, err := Verify(h.Context(), h.store.Pool(), v)
	require.NoError(h, err)
	return report
}

// problems is what a report says, a line each.
func problems(r *Report) string {
	var lines strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&lines, "%d: %s\n", p.Position, p.Text)
	}
	return lines.String()
}

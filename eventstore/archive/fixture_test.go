package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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

// partition is how many events a partition of a test's log has.
const partition = 1000

// fixture is a log of small partitions with an archive beside it.
type fixture struct {
	store *postgres.Store
	codec *eventstore.Codec
	dir   string
	dsn   string
}

func newFixture(t testing.TB, partition int64) fixture {
	t.Helper()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(context.Background(), dsn)
	require.NoError(t, err)
	return openFixture(t, dsn, filepath.Join(t.TempDir(), "archive"), partition)
}

func openFixture(t testing.TB, dsn, dir string, partition int64) fixture {
	t.Helper()
	store, err := openStore(context.Background(), dsn, partition)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return fixture{store, storetest.Codec(store), dir, dsn}
}

func openStore(ctx context.Context, dsn string, partition int64) (*postgres.Store, error) {
	return postgres.Open(ctx, dsn, uuid.New(), slog.New(slog.DiscardHandler), postgres.PartitionSize(partition))
}

// archiver is one that runs so many days later.
func (f fixture) archiver(days int, retention map[string]time.Duration) *Archiver {
	return NewArchiver(f.store, f.codec, Config{
		Dir: f.dir, Retention: retention, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().AddDate(0, 0, days) },
	})
}

var (
	lines = domain.ExecutionLogLine{}.EventType()
	month = map[string]time.Duration{lines: 30 * domain.Day}
)

func (f fixture) append(t testing.TB, stream, account uuid.UUID, facts ...domain.Event) {
	t.Helper()
	_, err := f.store.Append(t.Context(), f.write(t, stream, account, facts...))
	require.NoError(t, err)
}

func (f fixture) write(t testing.TB, stream, account uuid.UUID, facts ...domain.Event) eventstore.Write {
	t.Helper()
	w := eventstore.Write{StreamID: stream, Expected: eventstore.Any}
	for _, fact := range facts {
		e, err := f.codec.Encode(t.Context(), uuid.Must(uuid.NewV7()), fact, eventstore.Metadata{
			AccountID: account, Actor: domain.Actor{Kind: domain.ActorWorker, ID: uuid.New()},
		})
		require.NoError(t, err)
		w.Events = append(w.Events, e)
	}
	return w
}

// register opens an account, with a retention of its own unless days is 0.
func (f fixture) register(t testing.TB, days int) uuid.UUID {
	t.Helper()
	account := uuid.New()
	f.append(t, account, account, domain.AccountRegistered{AccountID: account, Email: "ada@example.com", Name: "Ada"})
	if days > 0 {
		f.append(t, account, account, domain.RetentionChanged{Kind: lines, Days: &days})
	}
	return account
}

// run is an execution of ten events, seven of them lines.
func (f fixture) run(t testing.TB, account uuid.UUID) eventstore.Write {
	t.Helper()
	id := uuid.New()
	facts := []domain.Event{domain.ExecutionRequested{ExecutionID: id, AccountID: account, Input: json.RawMessage("{}")}, domain.ExecutionStarted{WorkerID: id}}
	for n := range 7 {
		facts = append(facts, domain.ExecutionLogLine{Stream: domain.Stdout, Text: fmt.Sprintf("line %d of %s", n, id), At: time.Now().UTC()})
	}
	return f.write(t, id, account, append(facts, domain.ExecutionCompleted{Output: json.RawMessage("1"), DurationMS: 1})...)
}

// fill lets the accounts take turns until there are so many events more, in one append.
func (f fixture) fill(t testing.TB, events int, accounts ...uuid.UUID) {
	t.Helper()
	var writes []eventstore.Write
	for n := 0; n < events; n += 10 {
		writes = append(writes, f.run(t, accounts[n/10%len(accounts)]))
	}
	_, err := f.store.Append(t.Context(), writes...)
	require.NoError(t, err)
}

func (f fixture) events(t testing.TB) []eventstore.Event { return storetest.All(t, f.store) }

// files lists what is in the archive's folder.
func (f fixture) files(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(f.dir)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// requireWhole wants every payload of before to be in the log or in the archive, as it was, and nothing else changed.
func (f fixture) requireWhole(t testing.TB, before []eventstore.Event) (archived int) {
	t.Helper()
	files := Open(f.store.Pool(), f.dir)
	defer files.Close()
	now := f.events(t)
	for i, want := range before {
		got := now[i]
		if got.Data == nil {
			var err error
			got.Data, err = files.Payload(t.Context(), got.Position)
			require.NoError(t, err)
			archived++
		}
		require.Equal(t, want, got)
	}
	return archived
}

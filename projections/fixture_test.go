package projections_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// fixture is a log with its projections following it.
type fixture struct {
	*commands.Handlers
	*projections.Queries
	store     *postgres.Store
	codec     *eventstore.Codec
	live      *projections.Live
	rebuilder *projections.Rebuilder
	ctx       context.Context
}

var system = commands.Origin{Actor: domain.Actor{Kind: domain.ActorSystem}, RequestID: uuid.New()}

func newFixture(t testing.TB, list ...*projections.Projection) fixture {
	t.Helper()
	ctx := context.Background()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(ctx, dsn)
	require.NoError(t, err)
	quiet := slog.New(slog.DiscardHandler)
	store, err := postgres.Open(ctx, dsn, uuid.New(), quiet)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	codec := storetest.Codec(store)
	return fixture{
		Handlers:  commands.New(store, store, codec, passwords, []string{"nodejs", "python"}),
		Queries:   projections.NewQueries(store.Pool()),
		store:     store,
		codec:     codec,
		live:      projectionstest.Follow(t, store, codec, list),
		rebuilder: projectionstest.Rebuilder(store, codec, list),
		ctx:       ctx,
	}
}

func (f fixture) caughtUp(t testing.TB) {
	t.Helper()
	projectionstest.CatchUp(t, f.store, f.live)
}

func (f fixture) function(t testing.TB, owner uuid.UUID, name string) uuid.UUID {
	t.Helper()
	id, _, err := f.CreateFunction.Handle(f.ctx, system, domain.CreateFunction{AccountID: owner, Name: name, Runtime: "nodejs", Code: "code"})
	require.NoError(t, err)
	return id
}

// run requests an execution and plays its worker: it prints lines and ends in end, or stays running when end is nil.
func (f fixture) run(t testing.TB, owner, function uuid.UUID, input string, end domain.Event, lines ...string) uuid.UUID {
	t.Helper()
	id, _, err := f.RequestExecution.Handle(f.ctx, system, domain.RequestExecution{
		AccountID: owner, FunctionID: function, Input: json.RawMessage(input),
	})
	require.NoError(t, err)
	attempt, err := f.ClaimExecution.Handle(f.ctx, id, uuid.New())
	require.NoError(t, err)
	var log []domain.ExecutionLogLine
	for _, text := range lines {
		log = append(log, domain.ExecutionLogLine{Stream: domain.Stdout, Text: text, At: time.Now().UTC()})
	}
	require.NoError(t, f.ReportExecution.Handle(f.ctx, attempt, log, end))
	return id
}

func done(output string) domain.Event {
	return domain.ExecutionCompleted{Output: json.RawMessage(output), DurationMS: 12, MemoryMB: 40}
}

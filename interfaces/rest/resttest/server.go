// Package resttest runs the whole API for tests: a real Postgres, the real log, projections that follow it, and HTTP on
// a port of its own.
package resttest

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// Secret signs the access tokens of every test server.
const Secret = "a secret of tests, longer than 32 bytes"

// Version is what the health check of every test server says.
const Version = "test"

// Server is an API over a log of its own. Nobody runs its executions: tests play the worker through Commands.
type Server struct {
	URL      string
	Commands *commands.Handlers
	Queries  *projections.Queries
	Live     *projections.Live
	Store    *postgres.Store
	API      *rest.API
}

// Start starts a server that ends with the test. change may adapt the configuration before.
func Start(t testing.TB, change ...func(*rest.Config)) *Server {
	t.Helper()
	s := open(t)
	config := rest.Config{
		Commands: s.Commands, Queries: s.Queries, Health: s.health(),
		Wait: func(ctx context.Context, projection string, position int64) error {
			return s.Live.Wait(ctx, projection, eventstore.Position(position))
		},
		JWTSecret: []byte(Secret), Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&config)
	}
	api, err := rest.New(config)
	require.NoError(t, err)
	t.Cleanup(api.Close)

	server := httptest.NewUnstartedServer(api)
	server.Config = rest.NewServer(api, config.Logger)
	server.Start()
	t.Cleanup(server.Close)
	s.API, s.URL = api, server.URL
	return s
}

// open makes everything under the API.
func open(t testing.TB) *Server {
	t.Helper()
	ctx := context.Background()
	quiet := slog.New(slog.DiscardHandler)
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(ctx, dsn)
	require.NoError(t, err)
	store, err := postgres.Open(ctx, dsn, uuid.New(), quiet)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	return &Server{
		Commands: commands.New(store, store, eventstore.DomainCodec(), passwords, []string{"nodejs", "python"}),
		Queries:  projections.NewQueries(store.Pool()), Store: store, Live: projectionstest.Follow(t, store, projections.All()),
	}
}

func (s *Server) health() rest.Health {
	return rest.Health{
		Version: Version, Runtimes: []string{"nodejs", "python"}, Ping: s.Store.Ping,
		Head: func(ctx context.Context) (int64, error) {
			head, err := s.Store.Head(ctx)
			return int64(head), err
		},
		Projections: func(head int64) []projections.Status { return s.Live.Status(eventstore.Position(head)) },
		Executions:  func() (running, slots int) { return 0, 4 },
	}
}

// Head is the newest position of the log: as long as it stays, nothing was changed.
func (s *Server) Head(t testing.TB) int64 {
	t.Helper()
	head, err := s.Store.Head(context.Background())
	require.NoError(t, err)
	return int64(head)
}

// CatchUp waits until every projection shows the whole log.
func (s *Server) CatchUp(t testing.TB) {
	t.Helper()
	projectionstest.CatchUp(t, s.Store, s.Live)
}

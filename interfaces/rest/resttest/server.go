// Package resttest runs the whole API for tests: a real Postgres, the real log, projections that follow it, and HTTP on
// a port of its own.
package resttest

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/proof"
	"github.com/voltrun/voltrun/eventstore/storetest"
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
	URL         string
	Commands    *commands.Handlers
	Idempotency *commands.Idempotency
	Queries     *projections.Queries
	History     *projections.History
	Live        *projections.Live
	Rebuilds    *projections.Rebuilds
	Store       *postgres.Store
	Prover      *proof.Prover
	Keeper      *proof.Keeper // a test starts it that needs what it signs
	API         *rest.API

	accounts rest.Accounts
	dsn      string
}

// Start starts a server that ends with the test. change may adapt the configuration before.
func Start(t testing.TB, change ...func(*rest.Config)) *Server {
	t.Helper()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(context.Background(), dsn)
	require.NoError(t, err)
	return serve(t, dsn, change)
}

// StartBeside starts another server over the same database.
func (s *Server) StartBeside(t testing.TB, change ...func(*rest.Config)) *Server {
	t.Helper()
	return serve(t, s.dsn, change)
}

func serve(t testing.TB, dsn string, change []func(*rest.Config)) *Server {
	t.Helper()
	s := open(t, dsn)
	config := rest.Config{
		Commands: s.Commands, Idempotency: s.Idempotency, Queries: s.Queries, History: s.History, Live: s.Live, Rebuilds: s.Rebuilds,
		JWTSecret: []byte(Secret), Logger: slog.New(slog.DiscardHandler),
		Accounts: s.accounts,
		Health: rest.Health{
			Version: Version, Runtimes: []string{"nodejs", "python"}, Ping: s.Store.Ping, Head: s.Store.Head, Keys: func(context.Context) error { return nil },
			Executions: func() rest.ExecutionsHealth { return rest.ExecutionsHealth{Slots: 4} },
		},
		Proof: s.proof(),
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
func open(t testing.TB, dsn string) *Server {
	t.Helper()
	store, err := postgres.Open(context.Background(), dsn, uuid.New(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(store.Close)
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	codec := storetest.Codec(store)
	handlers := commands.New(store, store, codec, passwords, []string{"nodejs", "python"})
	live := projectionstest.Follow(t, store, codec, projections.All())
	rebuilder := projectionstest.Rebuilder(store, codec, projections.All())
	rebuilds := projections.NewRebuilds(rebuilder, live)
	t.Cleanup(rebuilds.Stop)
	eraser := projections.NewEraser(store, codec.Keys(), rebuilder, slog.New(slog.DiscardHandler))
	key, err := proof.ParseKey(proof.GenerateKey())
	require.NoError(t, err)
	keeper := proof.NewKeeper(store, key, proof.Witness{Path: filepath.Join(t.TempDir(), "heads.log")}, slog.New(slog.DiscardHandler))
	t.Cleanup(keeper.Stop)
	return &Server{
		Prover: proof.NewProver(store.Pool(), codec, nil, key), Keeper: keeper,
		Commands: handlers, Idempotency: commands.NewIdempotency(handlers, store, sha256.Sum256([]byte(Secret))),
		Queries: projections.NewQueries(store.Pool()), History: projections.NewHistory(store.Pool(), codec, nil),
		Store: store, Live: live, Rebuilds: rebuilds, dsn: dsn,
		accounts: rest.Accounts{
			First:  func(ctx context.Context) (uuid.UUID, error) { return projections.FirstAccount(ctx, store) },
			Erased: codec.Keys().Erased, Erasures: eraser.Status,
		},
	}
}

func (s *Server) proof() rest.Proof {
	return rest.Proof{
		Checkpoint: func(ctx context.Context) (any, string, error) {
			checkpoint, err := s.Prover.Checkpoint(ctx)
			return checkpoint, checkpoint.Note, err
		},
		Event: func(ctx context.Context, account uuid.UUID, position, size int64) (any, error) {
			return s.Prover.Event(ctx, account, position, size)
		},
		Consistency: func(ctx context.Context, from, to int64) (any, error) { return s.Prover.Consistency(ctx, from, to) },
		Bundle: func(ctx context.Context, account, execution uuid.UUID, since int64, to io.Writer) error {
			return s.Prover.WriteBundle(ctx, proof.Excerpt{Account: account, Execution: execution, Since: since}, to)
		},
		Status: func() rest.ProofStatus { return rest.ProofStatus(s.Keeper.Status()) },
	}
}

// OperatorToken is what whoever runs the server shows.
func OperatorToken(t testing.TB) string {
	t.Helper()
	token, err := rest.OperatorToken([]byte(Secret), time.Now())
	require.NoError(t, err)
	return token
}

// Head is the newest position of the log: as long as it stays, nothing was changed.
func (s *Server) Head(t testing.TB) projections.Position {
	t.Helper()
	head, err := s.Store.Head(context.Background())
	require.NoError(t, err)
	return head
}

// CatchUp waits until every projection shows the whole log.
func (s *Server) CatchUp(t testing.TB) {
	t.Helper()
	projectionstest.CatchUp(t, s.Store, s.Live)
}

// Hold keeps a projection where it is, as another process would that has the turn and does not end it, until release
// is called or the test ends.
func (s *Server) Hold(t testing.TB, projection string) (release func()) {
	t.Helper()
	tx, err := s.Store.Pool().Begin(context.Background())
	require.NoError(t, err)
	release = sync.OnceFunc(func() { _ = tx.Rollback(context.Background()) })
	t.Cleanup(release)
	_, err = tx.Exec(t.Context(), "select from checkpoints where consumer = $1 for update", "projection."+projection)
	require.NoError(t, err)
	return release
}

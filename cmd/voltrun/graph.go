package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"go.uber.org/fx"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/archive"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/proof"
	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/runners"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// stopTimeout is how long the services may take to stop: the server waits 5 s for answers that are on their way, the
// router 10 s for handlers.
const stopTimeout = 20 * time.Second

// graph is everything that a server is made of, in the order of the flow: what stands further down needs what stands
// above it. At the end the services are stopped from the last to the first, and then what was opened is closed.
func graph(ctx context.Context, c config, logger *slog.Logger, out io.Writer, listener net.Listener, opened *resources) fx.Option {
	return fx.Options(
		fx.Supply(c, logger, opened),
		fx.Provide(
			func() (context.Context, io.Writer, net.Listener) { return ctx, out, listener },
			newWorkerID,

			// the log
			openDatabase,
			openStore,
			openKeyRing,
			eventstore.DomainCodec,
			openArchive,

			// functions
			runners.DiscoverRuntimes,
			newSandbox,
			newRunner,

			// commands and queries
			newPasswords,
			newCommands,
			newIdempotency,
			newQueries,
			newHistory,

			// what follows the log
			newFeed,
			newRouter,
			followLog,
			newRebuilder,
			projections.NewEraser,
			projections.NewRebuilds,
			newProofKey,
			newKeeper,
			newRecorder,
			newExecutor,
			newRescuer,

			// the edge
			newAccounts,
			newProver,
			newAPI,
			newHTTPServer,
		),
		fx.Invoke(
			sealPlain, setUpProjections, runRequested, hearErasures, startRouter, catchUp, startKeeper, startRescuer, startEraser, pruneAnswers,
			startServer, announce,
		),
		fx.NopLogger,
	)
}

// newWorkerID names this process for as long as it lives.
func newWorkerID() uuid.UUID { return uuid.New() }

func openStore(ctx context.Context, c config, opened *resources, db database, workerID uuid.UUID, logger *slog.Logger) (*postgres.Store, error) {
	store, err := postgres.Open(ctx, db.dsn, workerID, logger, postgres.PartitionSize(c.PartitionSize))
	if err != nil {
		return nil, err
	}
	opened.add("the log", noError(store.Close))
	return store, nil
}

func newRunner(
	opened *resources, c config, driver sandbox.Driver, runtimes *runners.Runtimes, logger *slog.Logger,
) (*runners.Pool, error) {
	if len(runtimes.Available()) == 0 {
		return nil, errors.New("this host has neither Node.js (18 or newer) nor Python (3.9 or newer); install one of them, for example: apt-get install nodejs python3")
	}
	pool, err := runners.NewPool(runners.PoolConfig{
		Driver: driver, Runtimes: runtimes, MemoryBudgetMB: c.MemoryMB, Egress: c.Network == domain.NetworkEgress, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	opened.add("the processes of functions", func(context.Context) error { return pool.Close() })
	return pool, nil
}

func newPasswords() (*commands.Passwords, error) { return commands.NewPasswords(bcrypt.DefaultCost) }

func newCommands(s *postgres.Store, codec *eventstore.Codec, passwords *commands.Passwords, runtimes *runners.Runtimes) *commands.Handlers {
	return commands.New(s, s, codec, passwords, runtimes.Available())
}

func newQueries(store *postgres.Store) *projections.Queries {
	return projections.NewQueries(store.Pool())
}

func openArchive(opened *resources, c config, store *postgres.Store) *archive.Archive {
	archived := archive.Open(store.Pool(), c.ArchiveDir)
	opened.add("the archive", func(context.Context) error { return archived.Close() })
	return archived
}

func newHistory(store *postgres.Store, codec *eventstore.Codec, archived *archive.Archive) *projections.History {
	return projections.NewHistory(store.Pool(), codec, archived)
}

func newExecutor(
	opened *resources, c config, workerID uuid.UUID, r *recorder, runner *runners.Pool, logger *slog.Logger,
) *runners.Executor {
	executor := runners.NewExecutor(r, runner, runners.ExecutorConfig{WorkerID: workerID, Slots: c.Slots, PerAccount: c.PerAccount, Logger: logger})
	opened.add("the executor", executor.Stop)
	return executor
}

func newRescuer(workerID uuid.UUID, r *recorder, executor *runners.Executor, logger *slog.Logger) *runners.Rescuer {
	return runners.NewRescuer(r, runners.RescuerConfig{WorkerID: workerID, Held: executor.Holds, Logger: logger})
}

// apiParts are what the API stands on.
type apiParts struct {
	fx.In

	Config      config
	Commands    *commands.Handlers
	Idempotency *commands.Idempotency
	Queries     *projections.Queries
	History     *projections.History
	Live        *projections.Live
	Rebuilds    *projections.Rebuilds
	Accounts    rest.Accounts
	Store       *postgres.Store
	Codec       *eventstore.Codec
	Executor    *runners.Executor
	Runtimes    *runners.Runtimes
	Sandbox     sandbox.Driver
	Pool        *runners.Pool
	Prover      *proof.Prover
	Keeper      *proof.Keeper
	Logger      *slog.Logger
}

func newAPI(opened *resources, p apiParts) (*rest.API, error) {
	secret, err := jwtSecret(p.Config)
	if err != nil {
		return nil, err
	}
	api, err := rest.New(rest.Config{
		Commands: p.Commands, Idempotency: p.Idempotency, Queries: p.Queries, History: p.History, Live: p.Live, Rebuilds: p.Rebuilds,
		Accounts: p.Accounts, JWTSecret: secret, Retention: p.Config.Retention, DevOrigins: p.Config.DevOrigins, Logger: p.Logger,
		Health: rest.Health{
			Version: version, Runtimes: p.Runtimes.Available(), Ping: p.Store.Ping, Head: p.Store.Head, Keys: p.Codec.Keys().Ready,
			Executions: func() rest.ExecutionsHealth { return rest.ExecutionsHealth(p.Executor.Load()) },
			Isolation:  p.Sandbox.Enforcement(), Processes: func() any { return p.Pool.Stats() },
		},
		Executor: executions{p.Executor}, NoEgress: noEgress(p.Sandbox.Enforcement()), Proof: proofFor(p.Prover, p.Keeper),
	})
	if err != nil {
		return nil, err
	}
	opened.add("the API", noError(api.Close))
	return api, nil
}

func newAccounts(store *postgres.Store, keys *eventstore.KeyRing, eraser *projections.Eraser) rest.Accounts {
	return rest.Accounts{
		First:  func(ctx context.Context) (uuid.UUID, error) { return projections.FirstAccount(ctx, store) },
		Erased: keys.Erased, Erasures: eraser.Status,
	}
}

func newHTTPServer(api *rest.API, logger *slog.Logger) *http.Server {
	return rest.NewServer(api, logger)
}

func newRebuilder(store *postgres.Store, codec *eventstore.Codec, logger *slog.Logger) *projections.Rebuilder {
	return projections.NewRebuilder(store.Pool(), codec, projections.All(), logger)
}

// sealPlain seals what early versions have not, before anybody can ask for an erasure.
func sealPlain(ctx context.Context, store *postgres.Store, keys *eventstore.KeyRing, logger *slog.Logger) error {
	return store.SealPlain(ctx, keys, logger)
}

// setUpProjections makes the read models ready before anything follows the log. What has to be rebuilt but can serve as it
// is, is rebuilt while the server runs.
func setUpProjections(
	ctx context.Context, lc fx.Lifecycle, rebuilder *projections.Rebuilder, rebuilds *projections.Rebuilds, logger *slog.Logger,
) error {
	due, err := rebuilder.Setup(ctx)
	lc.Append(fx.StartStopHook(func() {
		for _, name := range due {
			logger.Info("a read model of another version serves while it is rebuilt", "projection", name)
			_, _ = rebuilds.Start(name) // the rebuild itself says what becomes of it
		}
	}, rebuilds.Stop))
	return err
}

func startRouter(lc fx.Lifecycle, router *message.Router) {
	lc.Append(fx.StartStopHook(
		func(ctx context.Context) error {
			ended := make(chan error, 1)
			go func() { ended <- router.Run(context.WithoutCancel(ctx)) }()
			select {
			case <-router.Running():
				return nil
			case err := <-ended:
				return errors.Join(errors.New("the router did not start"), err)
			}
		},
		router.Close,
	))
}

// catchUp keeps the doors closed until the projections show the whole log. What a read model does not show yet must not
// be taken for the truth: an API key that was deleted, or an execution that another server left behind. A projection
// that is paused keeps nobody waiting; the health check names it.
func catchUp(lc fx.Lifecycle, store *postgres.Store, live *projections.Live, logger *slog.Logger) {
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		head, err := store.Head(ctx)
		if err != nil {
			return err
		}
		for _, p := range live.Status(head) {
			began := time.Now()
			err := live.Wait(ctx, p.Name, head)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				logger.Error("the server starts without a projection that is up to date", "projection", p.Name, "error", err)
			}
			if took := time.Since(began); took > time.Second {
				logger.Info("a projection has caught up", "projection", p.Name, "took", took.Round(time.Millisecond))
			}
		}
		return nil
	}))
}

func startRescuer(lc fx.Lifecycle, rescuer *runners.Rescuer) {
	lc.Append(fx.StartStopHook(rescuer.Start, rescuer.Stop))
}

// hearErasures makes this process forget an account's key, and end its runs, when any process has erased it.
func hearErasures(store *postgres.Store, keys *eventstore.KeyRing, executor *runners.Executor, pool *runners.Pool) {
	store.OnErase(func(account uuid.UUID) {
		keys.NoteErased(account)
		executor.StopAccount(account)
		pool.RetireAccount(account)
	})
}

func startEraser(lc fx.Lifecycle, eraser *projections.Eraser) {
	lc.Append(fx.StartStopHook(eraser.Start, eraser.Stop))
}

func startServer(lc fx.Lifecycle, listener net.Listener, server *http.Server, logger *slog.Logger, shutdown fx.Shutdowner) {
	lc.Append(fx.StartStopHook(
		func() {
			go func() {
				if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
					logger.Error("the server stopped listening", "error", err)
					_ = shutdown.Shutdown(fx.ExitCode(1)) // it fails only when the end has begun already
				}
			}()
		},
		func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if err := server.Shutdown(ctx); err != nil {
				return server.Close() // whoever still waits for an answer has waited long enough
			}
			return nil
		},
	))
}

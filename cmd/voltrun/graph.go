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
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/runners"
)

// stopTimeout is how long an orderly end may take. It is more than its parts together: the router waits 10 s for
// handlers, the executor 5 s for functions, Postgres 10 s for its last checkpoint.
const stopTimeout = 30 * time.Second

// graph is everything that a server is made of, in the order of the flow: what stands further down needs what stands
// above it. At the end it is stopped from the bottom up.
func graph(ctx context.Context, c config, logger *slog.Logger, out io.Writer) fx.Option {
	return fx.Options(
		fx.Supply(c, logger),
		fx.Provide(
			func() (context.Context, io.Writer) { return ctx, out },
			newWorkerID,

			// the log
			openDatabase,
			openStore,
			eventstore.DomainCodec,

			// functions
			runners.DiscoverRuntimes,
			newRunner,

			// commands and queries
			newPasswords,
			newCommands,
			newQueries,

			// what follows the log
			newFeed,
			newRouter,
			followLog,
			newRecorder,
			newExecutor,
			newRescuer,

			// the edge
			newAPI,
			newHTTPServer,
		),
		fx.Invoke(setUpProjections, runRequested, startRouter, startRescuer, startServer, announce),
		fx.StopTimeout(stopTimeout),
		fx.NopLogger,
	)
}

// newWorkerID names this process for as long as it lives.
func newWorkerID() uuid.UUID { return uuid.New() }

func openStore(ctx context.Context, lc fx.Lifecycle, db database, workerID uuid.UUID, logger *slog.Logger) (*postgres.Store, error) {
	store, err := postgres.Open(ctx, db.dsn, workerID, logger)
	if err != nil {
		return nil, err
	}
	lc.Append(fx.StopHook(store.Close))
	return store, nil
}

func newRunner(lc fx.Lifecycle, runtimes *runners.Runtimes) (*runners.ProcessRunner, error) {
	if len(runtimes.Available()) == 0 {
		return nil, errors.New("this host has neither Node.js (18 or newer) nor Python (3.9 or newer); install one of them, for example: apt-get install nodejs python3")
	}
	runner, err := runners.NewProcessRunner(runtimes)
	if err != nil {
		return nil, err
	}
	lc.Append(fx.StopHook(runner.Close))
	return runner, nil
}

func newPasswords() (*commands.Passwords, error) { return commands.NewPasswords(bcrypt.DefaultCost) }

func newCommands(s *postgres.Store, codec *eventstore.Codec, passwords *commands.Passwords, runtimes *runners.Runtimes) *commands.Handlers {
	return commands.New(s, s, codec, passwords, runtimes.Available())
}

func newQueries(store *postgres.Store) *projections.Queries {
	return projections.NewQueries(store.Pool())
}

func newExecutor(lc fx.Lifecycle, c config, workerID uuid.UUID, r *recorder, runner *runners.ProcessRunner) *runners.Executor {
	executor := runners.NewExecutor(r, runner, runners.ExecutorConfig{WorkerID: workerID, Slots: c.Slots})
	lc.Append(fx.StopHook(executor.Stop))
	return executor
}

func newRescuer(workerID uuid.UUID, r *recorder, executor *runners.Executor) *runners.Rescuer {
	return runners.NewRescuer(r, runners.RescuerConfig{WorkerID: workerID, Held: executor.Holds})
}

func newAPI(
	lc fx.Lifecycle, c config, handlers *commands.Handlers, queries *projections.Queries, live *projections.Live, store *postgres.Store,
	executor *runners.Executor, runtimes *runners.Runtimes, logger *slog.Logger,
) (*rest.API, error) {
	secret, err := jwtSecret(c)
	if err != nil {
		return nil, err
	}
	api, err := rest.New(rest.Config{
		Commands: handlers, Queries: queries, Wait: waitFor(live), JWTSecret: secret, DevOrigins: c.DevOrigins, Logger: logger,
		Health: rest.Health{
			Version: version, Runtimes: runtimes.Available(), Ping: store.Ping,
			Head: func(ctx context.Context) (int64, error) {
				head, err := store.Head(ctx)
				return int64(head), err
			},
			Projections: func(head int64) []projections.Status { return live.Status(eventstore.Position(head)) },
			Executions:  executor.Slots,
		},
	})
	if err != nil {
		return nil, err
	}
	lc.Append(fx.StopHook(api.Close))
	return api, nil
}

func newHTTPServer(api *rest.API, logger *slog.Logger) *http.Server {
	return rest.NewServer(api, logger)
}

func setUpProjections(ctx context.Context, store *postgres.Store, logger *slog.Logger) error {
	anew, err := projections.Setup(ctx, store.Pool(), projections.All())
	if len(anew) > 0 {
		logger.Info("read models are built from the beginning of the log", "projections", anew)
	}
	return err
}

func startRouter(lc fx.Lifecycle, router *message.Router, logger *slog.Logger) {
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

func startRescuer(lc fx.Lifecycle, rescuer *runners.Rescuer) {
	lc.Append(fx.StartStopHook(rescuer.Start, rescuer.Stop))
}

func startServer(lc fx.Lifecycle, c config, server *http.Server, logger *slog.Logger, shutdown fx.Shutdowner) {
	lc.Append(fx.StartStopHook(
		func(ctx context.Context) error {
			listener, err := listen(ctx, c)
			if err != nil {
				return err
			}
			go func() {
				if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
					logger.Error("the server stopped listening", "error", err)
					_ = shutdown.Shutdown(fx.ExitCode(1)) // it fails only when the end has begun already
				}
			}()
			return nil
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

func listen(ctx context.Context, c config) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.address())
	if err != nil {
		return nil, errors.Join(errors.New("cannot listen on "+c.address()+": is another server running there? Choose another port with PORT"), err)
	}
	return listener, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/privatepg"
)

// withStore lets an operator's command work on the log itself, whether a server runs or not: the Postgres of
// DATABASE_URL, or the private one of the data folder, which is started for the command when no server has it. A server
// that runs notices nothing, and one that starts meanwhile waits. The schema must be this version's; only a database that
// nobody serves is migrated. A signal ends it with errInterrupted.
func withStore(ctx context.Context, c config, use func(context.Context, *postgres.Store, *eventstore.Codec) error) error {
	if err := requireDatabase(ctx, c); err != nil {
		return interruption(ctx, err)
	}
	return withDatabase(ctx, c, requireSchema, use)
}

// requireDatabase refuses to make a private Postgres where there is none.
func requireDatabase(ctx context.Context, c config) error {
	if c.DatabaseURL != "" || privatepg.HasCluster(c.DataDir) {
		return nil
	}
	_, running, err := privatepg.Attach(ctx, c.DataDir) // a server may be making it
	if err == nil && !running {
		err = fmt.Errorf("there is no VoltRun in the data folder %s; say where it is with VOLTRUN_DATA or DATABASE_URL", c.DataDir)
	}
	return err
}

// withStoreMade is withStore for a VoltRun that may not exist yet: its database is made then, as a first start does.
func withStoreMade(ctx context.Context, c config, use func(context.Context, *postgres.Store, *eventstore.Codec) error) error {
	return withDatabase(ctx, c, migrate, use)
}

// withDatabase is withStore. prepare looks after the schema of the Postgres of DATABASE_URL.
func withDatabase(
	ctx context.Context, c config, prepare func(context.Context, string) error,
	use func(context.Context, *postgres.Store, *eventstore.Codec) error,
) (err error) {
	defer func() { err = interruption(ctx, err) }()
	if c.DatabaseURL != "" {
		if err := prepare(ctx, c.DatabaseURL); err != nil {
			return unusable(err)
		}
		return useStore(ctx, c, c.DatabaseURL, use)
	}
	dsn, started, err := findPrivate(ctx, c)
	if err != nil {
		return err
	}
	if started == nil {
		return useServers(ctx, c, dsn, use)
	}
	defer func() { err = errors.Join(err, started.Stop(context.WithoutCancel(ctx))) }()
	if err := migrate(ctx, dsn); err != nil {
		return err
	}
	return useStore(ctx, c, dsn, use)
}

// findPrivate leads to the Postgres of the data folder: that of the server which runs there, or else one that is started.
func findPrivate(ctx context.Context, c config) (dsn string, started *privatepg.Server, err error) {
	for {
		dsn, running, err := privatepg.Attach(ctx, c.DataDir)
		if err != nil || running {
			return dsn, nil, err
		}
		started, err := privatepg.Start(ctx, privatepg.Config{
			DataDir: c.DataDir, Logger: slog.New(slog.DiscardHandler), Command: commandIn(ctx),
			Waiting: func(h privatepg.Holder) {
				fmt.Fprintf(os.Stderr, "Waiting for %s, which is using the data folder.\n", h)
			},
		})
		if err == nil {
			return started.DSN(), started, nil
		}
		if !privatepg.IsInUse(err) {
			return "", nil, err
		} // else a server was faster, and can be used
	}
}

// useServers is useStore on the private Postgres of a server, which ends with the server.
func useServers(ctx context.Context, c config, dsn string, use func(context.Context, *postgres.Store, *eventstore.Codec) error) error {
	if err := requireSchema(ctx, dsn); err != nil {
		return err
	}
	err := useStore(ctx, c, dsn, use)
	if err == nil || ctx.Err() != nil || !feed.Passing(err) {
		return err
	}
	if _, running, attachErr := privatepg.Attach(ctx, c.DataDir); running || attachErr != nil {
		return err
	}
	return fmt.Errorf("the server of %s was stopped, and with it its Postgres, before this was done; run it again", c.DataDir)
}

func useStore(ctx context.Context, c config, dsn string, use func(context.Context, *postgres.Store, *eventstore.Codec) error) error {
	store, err := postgres.Open(ctx, dsn, uuid.New(), slog.New(slog.DiscardHandler), postgres.PartitionSize(c.PartitionSize))
	if err != nil {
		return err
	}
	defer store.Close()
	keys, err := newKeyRing(ctx, c, store)
	if err != nil {
		return err
	}
	return use(ctx, store, eventstore.DomainCodec(keys))
}

// requireSchema refuses a database that a server of another version may be working on.
func requireSchema(ctx context.Context, dsn string) error {
	current, err := postgres.Migrated(ctx, dsn)
	if err == nil && !current {
		err = fmt.Errorf("the database was made by an older VoltRun; start a server of this version first, which brings it up to date")
	}
	return err
}

func migrate(ctx context.Context, dsn string) error {
	_, err := postgres.Migrate(ctx, dsn)
	return err
}

// commandKey is where a context holds the command that runs, as it is typed.
type commandKey struct{}

// commandIn names the command that runs, for others who want the data folder meanwhile.
func commandIn(ctx context.Context) string {
	if name, ok := ctx.Value(commandKey{}).(string); ok {
		return name
	}
	return "voltrun"
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/privatepg"
)

// withStore lets an operator's command work on the log itself, whether a server runs or not: the Postgres of
// DATABASE_URL, or the private one of the data folder, which is started for the command when no server has it. A server
// that runs notices nothing. Its schema must be this version's; only a database that nobody serves is migrated.
func withStore(ctx context.Context, c config, use func(context.Context, *postgres.Store, *eventstore.Codec) error) (err error) {
	db, stop, err := findDatabase(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return useStore(ctx, c, db, use)
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

// findDatabase leads to a database of this version's schema. stop ends what was started for it.
func findDatabase(ctx context.Context, c config) (dsn string, stop func() error, err error) {
	nothing := func() error { return nil }
	if c.DatabaseURL != "" {
		return c.DatabaseURL, nothing, requireSchema(ctx, c.DatabaseURL)
	}
	dsn, running, err := privatepg.Attach(ctx, c.DataDir)
	if err != nil {
		return "", nil, err
	}
	if running {
		return dsn, nothing, requireSchema(ctx, dsn)
	}
	if !privatepg.HasCluster(c.DataDir) {
		return "", nil, fmt.Errorf("there is no VoltRun in the data folder %s; say where it is with VOLTRUN_DATA or DATABASE_URL", c.DataDir)
	}
	server, err := privatepg.Start(ctx, privatepg.Config{DataDir: c.DataDir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", nil, err
	}
	stop = func() error { return server.Stop(context.WithoutCancel(ctx)) }
	if _, err := postgres.Migrate(ctx, server.DSN()); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return server.DSN(), stop, nil
}

// requireSchema refuses a database that a server of another version may be working on.
func requireSchema(ctx context.Context, dsn string) error {
	current, err := postgres.Migrated(ctx, dsn)
	if err == nil && !current {
		err = fmt.Errorf("the database was made by an older VoltRun; start a server of this version first, which brings it up to date")
	}
	return err
}

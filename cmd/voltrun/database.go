package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/privatepg"
)

// database is a migrated Postgres.
type database struct {
	dsn   string
	about string // one line for the person who started the server
}

// openDatabase uses the configured Postgres, or starts the private one of the data folder, which ends with the server.
func openDatabase(ctx context.Context, opened *resources, c config, logger *slog.Logger) (database, error) {
	db := database{dsn: c.DatabaseURL, about: "the Postgres of DATABASE_URL"}
	if c.DatabaseURL == "" {
		server, err := privatepg.Start(ctx, privatepg.Config{DataDir: c.DataDir, Logger: logger})
		if err != nil {
			return database{}, err
		}
		opened.add("the private Postgres", server.Stop)
		db = database{dsn: server.DSN(), about: describe(c, server.Info())}
	}
	applied, err := postgres.Migrate(ctx, db.dsn)
	if err != nil && c.DatabaseURL != "" {
		return database{}, fmt.Errorf("%w; correct it, or leave it out to have a private one", unusable(err))
	}
	if err != nil {
		return database{}, err
	}
	if applied > 0 {
		db.about += ", schema brought up to date"
	}
	return db, nil
}

// unusable says that the Postgres of DATABASE_URL is why something failed.
func unusable(err error) error {
	return fmt.Errorf("the Postgres that DATABASE_URL names cannot be used: %w", err)
}

func describe(c config, info privatepg.Info) string {
	fetched := ""
	if info.Fetched {
		fetched = " (fetched)"
	}
	return fmt.Sprintf("a private Postgres %s%s in %s, %s in %s",
		info.Version, fetched, c.DataDir, info.Kind, info.Took.Round(10*time.Millisecond))
}

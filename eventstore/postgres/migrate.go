package postgres

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the database's schema up to date and returns how many migrations it applied. Several servers that
// start at once take turns.
func Migrate(ctx context.Context, dsn string) (int, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return 0, fmt.Errorf("parse the database address: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := newMigrator(db)
	if err != nil {
		return 0, err
	}
	applied, err := provider.Up(ctx)
	if err != nil {
		return 0, fmt.Errorf("migrate the database: %w", err)
	}
	return len(applied), nil
}

// Migrated tells whether the database's schema is up to date.
func Migrated(ctx context.Context, dsn string) (bool, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return false, fmt.Errorf("parse the database address: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := newMigrator(db)
	if err != nil {
		return false, err
	}
	pending, err := provider.HasPending(ctx)
	if err != nil {
		return false, fmt.Errorf("look at the database's schema: %w", err)
	}
	return !pending, nil
}

func newMigrator(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
}

package postgres

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrateTurn is how long a server waits for its turn to migrate.
const migrateTurn = 5 * time.Minute

// Migrate brings the database's schema up to date and returns how many migrations it applied. Several servers that
// start at once take turns.
func Migrate(ctx context.Context, dsn string) (int, error) {
	config, err := parseAddress(dsn)
	if err != nil {
		return 0, fmt.Errorf("read the database address: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := newMigrator(db)
	if err != nil {
		return 0, err
	}
	applied, err := provider.Up(ctx)
	if err != nil {
		return 0, explain(config, "migrate the database", err)
	}
	return len(applied), nil
}

// Migrated tells whether the database's schema is up to date.
func Migrated(ctx context.Context, dsn string) (bool, error) {
	config, err := parseAddress(dsn)
	if err != nil {
		return false, fmt.Errorf("read the database address: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := newMigrator(db)
	if err != nil {
		return false, err
	}
	pending, err := provider.HasPending(ctx)
	if err != nil {
		return false, explain(config, "look at the database's schema", err)
	}
	return !pending, nil
}

func newMigrator(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(migrateTurn/time.Second)))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
}

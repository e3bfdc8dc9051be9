package pgtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore/privatepg"
)

// slot is one of the data folders that test binaries use in turns, with the server that runs in it.
type slot struct {
	dir    string
	lock   *os.File // held as long as somebody keeps the slot, at the latest until this process ends
	server *privatepg.Server
}

// takeSlot starts a server in the first data folder that nobody uses now.
func takeSlot(ctx context.Context, logger *slog.Logger) (*slot, error) {
	cache, err := privatepg.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find a folder for test databases: %w", err)
	}
	home := filepath.Join(cache, "pgtest")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		s := &slot{dir: filepath.Join(home, strconv.Itoa(n))}
		err := s.take(ctx, logger)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !privatepg.IsInUse(err) {
			return nil, err
		}
	}
}

// take locks the slot, or answers EWOULDBLOCK, and starts its server.
func (s *slot) take(ctx context.Context, logger *slog.Logger) error {
	lock, err := os.OpenFile(s.dir+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	s.lock = lock
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = s.start(ctx, logger)
	}
	if err != nil {
		_ = lock.Close()
	}
	return err
}

// start starts the slot's server with no database in it. A folder that does not work, because an older run broke it or
// another version of Postgres made it, is made anew: it holds nothing but what tests left.
func (s *slot) start(ctx context.Context, logger *slog.Logger) error {
	err := s.tryStart(ctx, logger)
	if err == nil || ctx.Err() != nil || privatepg.IsInUse(err) {
		return err
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return err
	}
	return s.tryStart(ctx, logger)
}

func (s *slot) tryStart(ctx context.Context, logger *slog.Logger) error {
	server, err := privatepg.Start(ctx, privatepg.Config{
		DataDir: s.dir, Logger: logger,
		Settings: map[string]string{"max_connections": "300"}, // parallel tests have a pool each
	})
	if err != nil {
		return err
	}
	if err := dropDatabases(ctx, server.DSN()); err != nil {
		return errors.Join(err, server.Stop(ctx))
	}
	s.server = server
	return nil
}

// dropDatabases drops what tests left that were killed.
func dropDatabases(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select datname from pg_database where not datistemplate and datname <> current_database()")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, "drop database "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
			return err
		}
	}
	return nil
}

// release stops the server and gives the slot back.
func (s *slot) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return errors.Join(s.server.Stop(ctx), s.lock.Close())
}

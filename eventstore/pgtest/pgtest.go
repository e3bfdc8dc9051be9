// Package pgtest gives tests real Postgres databases.
//
// The first test of a test binary that asks for a database starts a private Postgres, which all tests of the binary
// share and which ends with it; no TestMain is needed. Its data folder is kept and used again by later runs, so that
// only the very first one pays for making a cluster.
//
// VOLTRUN_TEST_DATABASE_URL, a libpq keyword string or a postgres:// URL of a superuser, makes Database use that server
// instead.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/eventstore/privatepg"
)

// patience bounds everything that is done to a server. The first start on a machine may have to download Postgres.
const patience = 5 * time.Minute

// Database returns the connection string of a new, empty database of the test's own. It is dropped, with whoever is
// still connected to it, when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	admin := os.Getenv("VOLTRUN_TEST_DATABASE_URL")
	if admin == "" {
		admin = Server(t).DSN()
	}
	return createDatabase(t, admin)
}

// Server returns the private Postgres that the tests of this binary share. Leave it as it is: a test that kills or
// changes a server takes OwnServer.
func Server(t testing.TB) *privatepg.Server {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("start a Postgres for the tests: %v", err)
	}
	return s.server
}

// OwnServer returns a private Postgres that only this test uses and may do anything to. It is stopped when the test ends.
func OwnServer(t testing.TB) *privatepg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := takeSlot(ctx, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatalf("start a Postgres of the test's own: %v", err)
	}
	t.Cleanup(func() {
		if err := s.release(); err != nil {
			t.Errorf("stop the test's own Postgres: %v", err)
		}
	})
	return s.server
}

// shared starts the server that the tests of this binary share, once, and keeps its slot locked. Nobody stops it: no hook
// runs at the end of every test binary, but Postgres ends with its parent.
var shared = sync.OnceValues(func() (*slot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return takeSlot(ctx, slog.Default())
})

// createDatabase makes a database on the server that admin leads to, and returns the way to it.
func createDatabase(t testing.TB, admin string) string {
	t.Helper()
	name := databaseName(t.Name())
	if err := execute(admin, "create database "+name); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(admin, "drop database if exists "+name+" with (force)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return withDatabase(admin, name)
}

var unfitForName = regexp.MustCompile(`[^a-z0-9]+`)

// databaseName is a name that no other test has, and that tells a person which test it belongs to.
func databaseName(test string) string {
	readable := unfitForName.ReplaceAllString(strings.ToLower(test), "_")
	return fmt.Sprintf("%.40s_%.10s", readable, strings.ToLower(rand.Text()))
}

// withDatabase is dsn with another database.
func withDatabase(dsn, name string) string {
	if u, err := url.Parse(dsn); err == nil && u.Scheme != "" {
		u.Path = "/" + name
		return u.String()
	}
	return dsn + " dbname=" + name // of two, the last one counts
}

// execute runs one statement on the server that dsn leads to.
func execute(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CheckAddress tells a person what is wrong with the address of a Postgres, without quoting it: it may hold a password.
func CheckAddress(dsn string) error {
	_, err := parseAddress(dsn)
	return err
}

func parseAddress(dsn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn)
	if err == nil {
		return config, nil
	}
	hint := ""
	if cause := errors.Unwrap(err); cause != nil && !strings.Contains(dsn, "://") { // a URL's error quotes parts of it
		hint = " (" + cause.Error() + ")"
	}
	return nil, errors.New("it must be a keyword string, such as host=db.example.com user=voltrun dbname=voltrun, or a URL, such as " +
		"postgres://voltrun@db.example.com/voltrun" + hint)
}

// explain says for people why something could not be done, above all when the Postgres cannot be reached.
func explain(config *pgx.ConnConfig, doing string, err error) error {
	err = fmt.Errorf("%s: %w", doing, err)
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return err
	}
	var refused *pgconn.PgError
	var errno syscall.Errno
	var dns *net.DNSError
	switch where := placesOf(config); {
	case errors.As(err, &refused):
		return fmt.Errorf("the Postgres at %s refuses: %s", where, refused.Message)
	case errors.As(err, &dns):
		return fmt.Errorf("no Postgres answers at %s: %s %s", where, dns.Err, dns.Name)
	case errors.As(err, &errno):
		return fmt.Errorf("no Postgres answers at %s: %w", where, errno)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no Postgres answers at %s in time", where)
	}
	return err
}

// placesOf says where a Postgres is looked for.
func placesOf(config *pgx.ConnConfig) string {
	places := []string{placeOf(config.Host, config.Port)}
	for _, f := range config.Fallbacks {
		places = append(places, placeOf(f.Host, f.Port))
	}
	return strings.Join(slices.Compact(places), ", ")
}

func placeOf(host string, port uint16) string {
	if filepath.IsAbs(host) {
		return fmt.Sprintf("the socket %s/.s.PGSQL.%d", host, port)
	}
	return net.JoinHostPort(host, fmt.Sprint(port))
}

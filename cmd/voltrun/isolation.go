package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// newSandbox chooses how functions are isolated. Where nothing isolates them, nobody but this host's own users gets to run
// any.
func newSandbox(ctx context.Context, c config, opened *resources, db database) (sandbox.Driver, error) {
	driver, err := sandbox.Choose(ctx, c.Isolation, sandbox.Options{OCIRuntime: c.OCIRuntime, Refused: addressesOf(ctx, db.dsn)})
	if err != nil {
		return nil, err
	}
	opened.add("the sandboxes", func(context.Context) error { return driver.Close() })
	enforced := driver.Enforcement()
	if enforced.Level == sandbox.LevelNone && !c.loopbackOnly() {
		return nil, fmt.Errorf("with VOLTRUN_ISOLATION=%s nothing isolates functions, so VoltRun listens on loopback only: leave out VOLTRUN_HOST, or VOLTRUN_ISOLATION", c.Isolation)
	}
	if c.Network == domain.NetworkEgress && enforced.Network["egress"] == sandbox.Not {
		return nil, errors.New("VOLTRUN_NETWORK_DEFAULT is egress, but functions cannot be given the internet safely here; voltrun serve with none says why")
	}
	return driver, nil
}

// addressesOf returns where the log is, which functions must not reach.
func addressesOf(ctx context.Context, dsn string) (prefixes []netip.Prefix) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil // who opens the database says so
	}
	hosts := []string{config.Host}
	for _, fallback := range config.Fallbacks {
		hosts = append(hosts, fallback.Host)
	}
	for _, host := range hosts {
		addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			continue // the folder of a socket
		}
		for _, address := range addresses {
			address = address.Unmap()
			prefixes = append(prefixes, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	return prefixes
}

// noEgress says why functions cannot be given the internet, or nothing when they can.
func noEgress(enforced sandbox.Enforcement) string {
	if enforced.Network["egress"] != sandbox.Not {
		return ""
	}
	return fmt.Sprintf("This server cannot give functions the internet safely (isolation: %s). GET /health says what it enforces.", enforced.Driver)
}

// describeIsolation says in one line how functions are kept apart, and what is not kept in full.
func describeIsolation(e sandbox.Enforcement) string {
	var weak []string
	for _, name := range slices.Sorted(maps.Keys(e.Limits)) {
		if e.Limits[name] != sandbox.Hard {
			weak = append(weak, fmt.Sprintf("%s: %s", name, e.Limits[name]))
		}
	}
	text := fmt.Sprintf("%s (%s)", e.Driver, e.Level)
	if len(weak) > 0 {
		text += "; not hard limits: " + strings.Join(weak, ", ")
	}
	for _, note := range e.Notes {
		text += "\n             " + note
	}
	return text
}

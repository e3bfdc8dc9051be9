package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/proof"
	"github.com/voltrun/voltrun/interfaces/rest"
	"github.com/voltrun/voltrun/runners/sandbox"
)

const (
	defaultHost = "127.0.0.1"
	defaultPort = "8080"
	defaultData = ".voltrun"

	// minPartitionEvents keeps a log from having more partitions than Postgres plans well with.
	minPartitionEvents = 1000
)

const environmentHelp = `It is configured by the environment:
  PORT                 the port to listen on (8080)
  VOLTRUN_HOST         the address to listen on (127.0.0.1); anything else than loopback opens the server to the network
  VOLTRUN_DATA         the folder for the private Postgres and the server's secrets (.voltrun)
  DATABASE_URL         a Postgres to use instead of the private one: a libpq keyword string or a postgres:// URL
  JWT_SECRET           signs access tokens, at least 32 bytes; without it, one is made and kept in the data folder
  VOLTRUN_MASTER_KEY   wraps the data keys of the accounts, 64 hex digits; without it, one is made and kept in the data folder.
                       While it is changed: NEW,OLD (see voltrun keys rotate --help)
  VOLTRUN_PROOF_KEY    signs the heads of the log; without it, one is made and kept in the data folder
  VOLTRUN_PARTITION_EVENTS  how many events a partition of the log has that is made from now on (1000000)
  VOLTRUN_ARCHIVE      the folder for what "voltrun archive" takes out of the database (archive in the data folder)
  VOLTRUN_RETENTION_LOG_LINE_DAYS  for how many days what functions print stays in the database at least, for accounts that
                       have not said so themselves; without it, for ever
  VOLTRUN_SLOTS        how many functions run at once (16 for each processor)
  VOLTRUN_ACCOUNT_SLOTS  how many of them of one account (all)
  VOLTRUN_MEMORY_MB    how much memory idle processes of functions may take before they are ended (2048)
  VOLTRUN_ISOLATION    how functions are kept apart: auto, bwrap, native, landlock, oci or process, which is not at all (auto)
  VOLTRUN_OCI_RUNTIME  the OCI runtime for VOLTRUN_ISOLATION=oci: crun, runc, runsc, krun or the path of one (crun)
  VOLTRUN_NETWORK_DEFAULT  what functions may reach that do not say: none, or egress, which is the internet (none)
  VOLTRUN_DEV_ORIGINS  web origins that may call from elsewhere, separated by commas (http://localhost:3000)
  VOLTRUN_PG_BIN       the folder of the Postgres binaries for the private Postgres
  VOLTRUN_NPM_REGISTRY where Postgres binaries are fetched from when the host has none (https://registry.npmjs.org)`

// config is what the environment says.
type config struct {
	Host          string
	Port          string
	DataDir       string // absolute
	DatabaseURL   string // empty: a private Postgres
	JWTSecret     string // empty: one of the data folder
	ProofKey      string // signs the heads of the log; empty: one of the data folder
	MasterKey     string // 64 hex digits, or several keys separated by commas, the newest first; empty: those of the data folder
	DevOrigins    []string
	Slots         int // 0: the executor's default
	PerAccount    int // 0: as many
	MemoryMB      int // 0: the pool's default
	Isolation     string
	OCIRuntime    string
	Network       domain.Network // of functions that do not say
	PartitionSize int64          // positions of a partition of the log
	ArchiveDir    string
	Retention     domain.Retention // of accounts that have none of their own
}

// configFromEnvironment reads the configuration and names every variable that is wrong.
func configFromEnvironment(getenv func(string) string) (config, error) {
	get := func(name, fallback string) string {
		if value := strings.TrimSpace(getenv(name)); value != "" {
			return value
		}
		return fallback
	}
	c := config{
		Host: get("VOLTRUN_HOST", defaultHost), Port: get("PORT", defaultPort),
		DatabaseURL: get("DATABASE_URL", ""), JWTSecret: get("JWT_SECRET", ""), MasterKey: get("VOLTRUN_MASTER_KEY", ""),
		ProofKey:   get("VOLTRUN_PROOF_KEY", ""),
		DevOrigins: strings.Split(get("VOLTRUN_DEV_ORIGINS", rest.DefaultDevOrigin), ","),
	}
	var dataErr error
	if c.DataDir, dataErr = filepath.Abs(get("VOLTRUN_DATA", defaultData)); dataErr != nil {
		dataErr = fmt.Errorf("VOLTRUN_DATA: %w", dataErr)
	}
	number := func(to *int, name string, most int) (err error) {
		if *to, err = strconv.Atoi(get(name, "0")); err != nil || *to < 0 || *to > most {
			return fmt.Errorf("%s must be a whole number up to %d, but is %q", name, most, getenv(name))
		}
		return nil
	}
	numbersErr := errors.Join(
		number(&c.Slots, "VOLTRUN_SLOTS", 10_000), number(&c.PerAccount, "VOLTRUN_ACCOUNT_SLOTS", 10_000), number(&c.MemoryMB, "VOLTRUN_MEMORY_MB", 1<<20),
	)
	c.Isolation, c.OCIRuntime = get("VOLTRUN_ISOLATION", sandbox.Auto), get("VOLTRUN_OCI_RUNTIME", "")
	c.Network = domain.Network(get("VOLTRUN_NETWORK_DEFAULT", string(domain.NetworkNone)))
	var partitionErr error
	c.PartitionSize, partitionErr = strconv.ParseInt(get("VOLTRUN_PARTITION_EVENTS", strconv.Itoa(postgres.DefaultPartitionSize)), 10, 64)
	if partitionErr != nil || c.PartitionSize < minPartitionEvents {
		partitionErr = fmt.Errorf("VOLTRUN_PARTITION_EVENTS must be a whole number of at least %d, but is %q", minPartitionEvents, getenv("VOLTRUN_PARTITION_EVENTS"))
	}
	var archiveErr error
	if c.ArchiveDir, archiveErr = filepath.Abs(get("VOLTRUN_ARCHIVE", filepath.Join(c.DataDir, "archive"))); archiveErr != nil {
		archiveErr = fmt.Errorf("VOLTRUN_ARCHIVE: %w", archiveErr)
	}
	var retentionErr error
	c.Retention, retentionErr = parseRetention(get("VOLTRUN_RETENTION_LOG_LINE_DAYS", ""))
	if err := errors.Join(dataErr, numbersErr, partitionErr, archiveErr, retentionErr, c.check()); err != nil {
		return c, &usageError{error: err}
	}
	return c, nil
}

func parseRetention(logLineDays string) (domain.Retention, error) {
	if logLineDays == "" {
		return nil, nil
	}
	days, err := strconv.Atoi(logLineDays)
	if err != nil || days < domain.MinRetentionDays || days > domain.MaxRetentionDays {
		return nil, fmt.Errorf("VOLTRUN_RETENTION_LOG_LINE_DAYS must be a number of days from %d to %d, but is %q; leave it out to keep everything",
			domain.MinRetentionDays, domain.MaxRetentionDays, logLineDays)
	}
	return domain.Retention{domain.ExecutionLogLine{}.EventType(): days}, nil
}

func (c config) check() error {
	var errs []error
	if !slices.Contains(sandbox.Names(), c.Isolation) {
		errs = append(errs, fmt.Errorf("VOLTRUN_ISOLATION must be one of %s, but is %q", strings.Join(sandbox.Names(), ", "), c.Isolation))
	}
	if c.Network != domain.NetworkNone && c.Network != domain.NetworkEgress {
		errs = append(errs, fmt.Errorf("VOLTRUN_NETWORK_DEFAULT must be none or egress, but is %q", c.Network))
	}
	if port, err := strconv.Atoi(c.Port); err != nil || port < 1 || port > 65535 {
		errs = append(errs, fmt.Errorf("PORT must be a number from 1 to 65535, but is %q", c.Port))
	}
	if c.DatabaseURL != "" {
		if err := postgres.CheckAddress(c.DatabaseURL); err != nil {
			errs = append(errs, fmt.Errorf("DATABASE_URL cannot be read: %w", err))
		}
	}
	if c.MasterKey != "" {
		if _, err := eventstore.ParseMasterKeys(c.MasterKey); err != nil {
			errs = append(errs, fmt.Errorf("VOLTRUN_MASTER_KEY: %w", err))
		}
	}
	if c.ProofKey != "" {
		if _, err := proof.ParseKey(c.ProofKey); err != nil {
			errs = append(errs, fmt.Errorf("VOLTRUN_PROOF_KEY: %w", err))
		}
	}
	if c.JWTSecret != "" && len(c.JWTSecret) < rest.MinSecretBytes {
		errs = append(errs, fmt.Errorf("JWT_SECRET must have at least %d bytes, but has %d; leave it out to have one made",
			rest.MinSecretBytes, len(c.JWTSecret)))
	}
	return errors.Join(errs...)
}

func (c config) address() string { return net.JoinHostPort(c.Host, c.Port) }

// loopbackOnly tells whether nobody but this host can connect.
func (c config) loopbackOnly() bool {
	ip := net.ParseIP(c.Host)
	return c.Host == "localhost" || ip != nil && ip.IsLoopback()
}

// defaultURL is where a server with the same environment listens.
func defaultURL(getenv func(string) string) string {
	port := strings.TrimSpace(getenv("PORT"))
	if port == "" {
		port = defaultPort
	}
	return "http://" + net.JoinHostPort(defaultHost, port)
}

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/archive"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

func archiveCommand() *cobra.Command {
	var older age
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "archive",
		Short: "Move old log lines out of the database into compressed files",
		Long: `Move what functions printed out of the database into compressed files, once it is old. That it was printed, when and
by which execution stays in the log, and so does its hash: the history can be proved with the files or without.

Lines leave by partitions of the log: when a partition is full and even its newest event is older than an account's
retention, all lines of that account in it are due. An account's own retention (PUT /api/account/retention) comes first,
then --older-than, then VOLTRUN_RETENTION_LOG_LINE_DAYS. Without any of them lines stay for ever.

It works on the database itself, whether a server runs or not. It may be killed at any moment: no line leaves the
database before its file is durable and recorded, and the next run goes on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := configFromEnvironment(os.Getenv)
			if err != nil {
				return err
			}
			return withStore(cmd.Context(), config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
				archiver := archive.NewArchiver(store, codec, archive.Config{
					Dir: config.ArchiveDir, Retention: operatorsRetention(config, older), Logger: slog.Default(),
				})
				if dryRun {
					return showDue(ctx, archiver, cmd.OutOrStdout())
				}
				return runArchiver(ctx, archiver, config.ArchiveDir, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().Var(&older, "older-than", "how old lines must be of accounts without a retention of their own, such as 30d or 12h")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what is due")
	return cmd
}

// operatorsRetention is how long lines stay of accounts that have not said so themselves.
func operatorsRetention(c config, older age) map[string]time.Duration {
	retention := map[string]time.Duration{}
	for kind, days := range c.Retention {
		retention[kind] = time.Duration(days) * domain.Day
	}
	if older.given {
		retention[domain.ExecutionLogLine{}.EventType()] = older.Duration
	}
	return retention
}

func showDue(ctx context.Context, archiver *archive.Archiver, out io.Writer) error {
	due, err := archiver.Due(ctx)
	if err != nil {
		return err
	}
	for _, d := range due {
		fmt.Fprintf(out, "events %d to %d, until %s: %s of %s, %.1f MB", d.From, d.To, d.Newest.Format(time.DateOnly),
			plural(d.Events, "line"), plural(len(d.Accounts), "account"), float64(d.Bytes)/1e6)
		if len(d.Kept) > 0 {
			fmt.Fprintf(out, "; those of %s stay", plural(len(d.Kept), "account"))
		}
		fmt.Fprintln(out)
	}
	if len(due) == 0 {
		fmt.Fprintln(out, nothingDue)
	}
	return nil
}

// plural says how many there are of a thing.
func plural[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

const nothingDue = "Nothing is due: no partition of the log is full and as old as a retention says. See voltrun archive --help."

func runArchiver(ctx context.Context, archiver *archive.Archiver, dir string, out io.Writer) error {
	files := 0
	err := archiver.Run(ctx, func(moved domain.LogArchived) {
		files++
		fmt.Fprintf(out, "events %d to %d: %s moved to %s\n", moved.From, moved.To, plural(moved.Events, "line"), moved.File)
	})
	switch {
	case err != nil:
		return err
	case files == 0:
		fmt.Fprintln(out, nothingDue)
	default:
		fmt.Fprintf(out, "The files are in %s. Keep them with the backups of the database: what is in them is nowhere else.\n", dir)
	}
	return nil
}

// age is a flag: a number of days such as 30d, or a shorter time as Go writes it.
type age struct {
	time.Duration
	given bool
}

// Set implements pflag.Value.
func (a *age) Set(text string) error {
	var err error
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		a.Duration = time.Duration(n) * domain.Day
		if n > domain.MaxRetentionDays {
			err = strconv.ErrRange
		}
	} else {
		a.Duration, err = time.ParseDuration(text)
	}
	a.given = true
	if err != nil || a.Duration < 0 {
		return fmt.Errorf("must be a time such as 30d or 12h")
	}
	return nil
}

// String implements pflag.Value.
func (a *age) String() string {
	if !a.given {
		return ""
	}
	return a.Duration.String()
}

// Type implements pflag.Value.
func (a *age) Type() string { return "time" }

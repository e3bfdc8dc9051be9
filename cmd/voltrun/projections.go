package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/interfaces/cli"
	"github.com/voltrun/voltrun/projections"
)

func projectionsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "projections", Short: "Look after the read models"}
	cmd.AddCommand(projectionsStatusCommand(), projectionsResumeCommand(), projectionsRebuildCommand(), projectionsVerifyCommand())
	return cmd
}

func projectionsStatusCommand() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far each projection has followed the log, and why one is paused",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return asOperator(func(token string) error {
				return cli.ProjectionsStatus(cmd.Context(), url, token, cmd.OutOrStdout())
			})
		},
	}
	urlFlag(cmd, &url)
	return cmd
}

func projectionsResumeCommand() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "resume NAME",
		Short: "Let a paused projection try again from where it stands",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOperator(func(token string) error {
				return cli.ResumeProjection(cmd.Context(), url, token, args[0], cmd.OutOrStdout())
			})
		},
	}
	urlFlag(cmd, &url)
	return cmd
}

// asOperator lets use call the server of this configuration as the one who runs it.
func asOperator(use func(token string) error) error {
	config, err := configFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	token, err := operatorToken(config)
	if err != nil {
		return fmt.Errorf("read the server's secret: %w", err)
	}
	return use(token)
}

func projectionsRebuildCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "rebuild NAME... | --all",
		Short: "Build read models anew from the log, while the server serves the old ones",
		Long: `Build read models anew from the log and put them in the place of the old ones in one step.

It works on the database itself, whether a server runs or not, and a server that runs goes on serving. Whatever ends the
command before it is done, Ctrl-C and kill -9 included, leaves the read models as they were.`,
		ValidArgs: projectionNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := chooseProjections(cmd, args, all)
			if err != nil {
				return err
			}
			return withRebuilder(cmd.Context(), func(ctx context.Context, rebuilder *projections.Rebuilder) error {
				return rebuildEach(ctx, cmd, rebuilder, names)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "rebuild every projection")
	return cmd
}

// rebuildEach goes on when one fails, but not when all of it was cancelled.
func rebuildEach(ctx context.Context, cmd *cobra.Command, rebuilder *projections.Rebuilder, names []string) error {
	var failures []error
	for _, name := range names {
		if err := rebuilder.Rebuild(ctx, name, progressOf(cmd, "rebuilt")); err != nil {
			failures = append(failures, explainRebuild(ctx, name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failures...)
}

func projectionsVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Check that the read models are what the log says",
		Long: `Build read models anew from the log, compare each table with the one that serves, and drop the new ones again.

Each table is shown with its rows and a digest, which does not depend on the order in which they are stored. The command
fails when one differs; "voltrun projections rebuild" mends it. Without names all projections are verified.`,
		ValidArgs: projectionNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := chooseProjections(cmd, args, len(args) == 0)
			if err != nil {
				return err
			}
			return withRebuilder(cmd.Context(), func(ctx context.Context, rebuilder *projections.Rebuilder) error {
				return verifyEach(ctx, cmd, rebuilder, names)
			})
		},
	}
}

func verifyEach(ctx context.Context, cmd *cobra.Command, rebuilder *projections.Rebuilder, names []string) error {
	var results []projections.Verification
	for _, name := range names {
		result, err := rebuilder.Verify(ctx, name, progressOf(cmd, "read again"))
		if err != nil {
			return explainRebuild(ctx, name, err)
		}
		results = append(results, result)
	}
	return cli.ShowVerifications(cmd.OutOrStdout(), results)
}

// withRebuilder lets use rebuild on the database itself. What a rebuild leaves when it loses its database is nobody's
// business: the next one drops it.
func withRebuilder(ctx context.Context, use func(context.Context, *projections.Rebuilder) error) error {
	config, err := configFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	return withStore(ctx, config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		return use(ctx, projections.NewRebuilder(store.Pool(), codec, projections.All(), slog.New(slog.DiscardHandler)))
	})
}

// progressOf shows how far it is on the terminal, or in lines when the output goes elsewhere.
func progressOf(cmd *cobra.Command, done string) func(projections.Progress) {
	out := cmd.ErrOrStderr()
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return cli.ProgressBar(out, done)
	}
	return cli.ProgressLines(out, done)
}

func explainRebuild(ctx context.Context, name string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w; the tables that serve are as they were", name, errInterrupted)
	case errors.Is(err, projections.ErrRebuilding):
		return fmt.Errorf("%s: %w; wait for the other one, or cancel it", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func projectionNames() (names []string) {
	for _, p := range projections.All() {
		names = append(names, p.Name)
	}
	return names
}

// chooseProjections checks what was asked for before anything is begun.
func chooseProjections(cmd *cobra.Command, args []string, all bool) ([]string, error) {
	names := projectionNames()
	switch {
	case all && len(args) > 0:
		return nil, misused(cmd, "name the projections or say --all, not both")
	case all:
		return names, nil
	case len(args) == 0:
		return nil, misused(cmd, "name a projection, or say --all; there are %s", strings.Join(names, ", "))
	}
	for _, name := range args {
		if !slices.Contains(names, name) {
			return nil, misused(cmd, "there is no projection %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	return args, nil
}

// Command voltrun is VoltRun: the server, and the client for those who prefer a terminal.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/voltrun/voltrun/interfaces/cli"
)

// version is set by the Makefile at build time.
var version = "dev"

func main() {
	// Whoever reads the output may be gone before we are, after a Ctrl-C to both: that is no reason to stop in disorder.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "voltrun:", err)
		os.Exit(exitCode(err))
	}
}

// exitCode is 1 for an error that does not say otherwise.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 1
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "voltrun",
		Short:         "Run Node.js and Python functions, and trust their history",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(serveCommand(), demoCommand(), replayCommand(), auditCommand(), projectionsCommand(), archiveCommand(),
		exportCommand(), importCommand(), keysCommand())
	return cmd
}

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Start the server",
		Long: `Start the server.

` + environmentHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := configFromEnvironment(os.Getenv)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), config, cmd.ErrOrStderr())
		},
	}
}

func demoCommand() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Register an account, create two functions, run them and follow their logs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cli.Demo(cmd.Context(), url, cmd.OutOrStdout())
		},
	}
	urlFlag(cmd, &url)
	return cmd
}

func urlFlag(cmd *cobra.Command, url *string) {
	cmd.Flags().StringVar(url, "url", defaultURL(os.Getenv), "where the server listens")
}

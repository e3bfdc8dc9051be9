// Command voltrun is VoltRun: the server, and the client for those who prefer a terminal.
package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
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
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	err := root().ExecuteContext(ctx)
	os.Exit(report(ctx, err, os.Stderr))
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "voltrun",
		Short:         "Run Node.js and Python functions, and trust their history",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			cmd.SetContext(context.WithValue(cmd.Context(), commandKey{}, cmd.CommandPath()))
		},
	}
	cmd.AddCommand(serveCommand(), demoCommand(), replayCommand(), auditCommand(), projectionsCommand(), archiveCommand(),
		exportCommand(), importCommand(), keysCommand())
	cmd.SetHelpCommand(helpCommand())
	cmd.InitDefaultHelpCmd()
	cmd.InitDefaultCompletionCmd()
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misused(cmd, "%w", err) })
	// A command that has others below it does nothing by itself.
	cmd.SetUsageTemplate(strings.Replace(cmd.UsageTemplate(), "{{if .Runnable}}", "{{if not .HasAvailableSubCommands}}", 1))
	refuseMisuse(cmd)
	return cmd
}

// refuseMisuse lets a command, and all below it, fail as misused when its arguments are not what it takes.
func refuseMisuse(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseMisuse(sub)
	}
	if cmd.HasSubCommands() {
		cmd.Args, cmd.RunE, cmd.SuggestionsMinimumDistance = cobra.ArbitraryArgs, refuseGroup, 2
		return
	}
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if check == nil || check(cmd, args) == nil {
			return nil
		}
		return misused(cmd, "%s; call it as: %s", countGiven(len(args)), cmd.UseLine())
	}
}

func countGiven(args int) string {
	if args == 0 {
		return "something is missing"
	}
	return plural(args, "argument") + " given"
}

// refuseGroup is what a command does that only has commands below it.
func refuseGroup(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		cmd.SetOut(cmd.ErrOrStderr())
		_ = cmd.Help() // it only fails when nobody can read it
		return misused(cmd, "say which command")
	}
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return misused(cmd, "there is no command %q; did you mean %q?", args[0], strings.Join(like, `" or "`))
	}
	return misused(cmd, "there is no command %q", args[0])
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show what a command does",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return misused(cmd.Root(), "there is no command %q", strings.Join(args, " "))
			}
			return about.Help()
		},
	}
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

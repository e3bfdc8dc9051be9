package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The exit codes of every command. docs/operating.md tells people.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2   // the command line or a variable of the environment is wrong; nothing was begun
	exitInterrupted = 130 // by Ctrl-C, SIGTERM or a closed terminal, as shells have it for SIGINT
)

// errInterrupted says that a signal ended a command before it was done.
var errInterrupted = errors.New("interrupted")

// interruption makes an error a calm one when it is only what became of a signal.
func interruption(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, errInterrupted) {
		return err
	}
	return errInterrupted
}

// usageError says that a command was not called as its help says.
type usageError struct {
	error
	command *cobra.Command // whose help tells more; nil: voltrun serve, which lists the environment
}

func (e *usageError) Unwrap() error { return e.error }

// ExitCode is what the process ends with.
func (e *usageError) ExitCode() int { return exitUsage }

// misused says that a command was not called as its help says.
func misused(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...), cmd}
}

func (e *usageError) hint() string {
	if e.command == nil {
		return "voltrun serve --help lists the variables of the environment."
	}
	return e.command.CommandPath() + " --help tells more."
}

// report tells a person how a command ended, and returns the exit code that says the same: that of an error that has one
// of its own, or else exitFailure.
func report(ctx context.Context, err error, out io.Writer) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, context.Canceled) {
		err = interruption(ctx, err)
	}
	fmt.Fprintln(out, "voltrun:", err)
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(out, usage.hint())
	}
	var coded interface{ ExitCode() int }
	switch {
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &coded):
		return coded.ExitCode()
	}
	return exitFailure
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"

	"github.com/voltrun/voltrun/eventstore/privatepg"
	"github.com/voltrun/voltrun/runners"
)

// serve runs the server until ctx ends or something stops it, and then ends everything in order.
func serve(ctx context.Context, c config, out io.Writer) error {
	logger := slog.New(slog.NewTextHandler(out, nil))
	slog.SetDefault(logger)
	app := fx.New(graph(ctx, c, logger, out))
	if err := app.Err(); err != nil {
		return explain(c, err)
	}
	if err := app.Start(ctx); err != nil {
		return explain(c, err)
	}
	var exit fx.ShutdownSignal
	select {
	case <-ctx.Done():
	case exit = <-app.Wait():
	}
	fmt.Fprintln(out, "Stopping: running functions get a few seconds to finish.")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := app.Stop(stopping); err != nil {
		return fmt.Errorf("not everything stopped in order (the next start recovers): %w", err)
	}
	fmt.Fprintln(out, "Stopped.")
	if exit.ExitCode != 0 {
		return errors.New("the server ended by itself; its log says why")
	}
	return nil
}

// explain finds what a person can do something about in fx's account of what it was doing.
func explain(c config, err error) error {
	cause := dig.RootCause(err)
	if privatepg.IsInUse(cause) {
		return fmt.Errorf("%w\nStop the other server, or start this one with another VOLTRUN_DATA and PORT; nothing in %s was touched", cause, c.DataDir)
	}
	return cause
}

// announce says what was started and where to go next, once everything runs.
func announce(lc fx.Lifecycle, c config, db database, runtimes *runners.Runtimes, _ *http.Server, out io.Writer) {
	lc.Append(fx.StartHook(func() {
		url := "http://" + c.address()
		fmt.Fprintf(out, "\nVoltRun %s is ready after %s.\n", version, time.Since(processStart).Round(10*time.Millisecond))
		fmt.Fprintf(out, "  open       %s\n", url)
		fmt.Fprintf(out, "  history    %s\n", db.about)
		fmt.Fprintf(out, "  runtimes   %s\n", strings.Join(runtimes.Available(), ", "))
		fmt.Fprintf(out, "  next       make demo\n")
		fmt.Fprintf(out, "  stop       Ctrl-C\n")
		if !c.loopbackOnly() {
			fmt.Fprintf(out, "  WARNING    %s can be reached from the network, and functions are not isolated from each other yet.\n", c.address())
		}
		fmt.Fprintln(out)
	}))
}

var processStart = time.Now()

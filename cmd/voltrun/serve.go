package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"

	"github.com/voltrun/voltrun/eventstore/privatepg"
	"github.com/voltrun/voltrun/runners"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// serve runs the server until ctx ends or something stops it, and then ends everything in order.
func serve(ctx context.Context, c config, out io.Writer) error {
	logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: c.LogLevel}))
	slog.SetDefault(logger)
	spendMemory()
	// First of all, because it is what fails most, and before anything is started or written.
	listener, err := listen(ctx, c)
	if err != nil {
		return err
	}
	defer listener.Close()
	opened := &resources{}
	err = runServices(ctx, c, logger, out, listener, opened)
	if closeErr := opened.closeAll(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("not everything was closed in order (the next start recovers): %w", closeErr))
	}
	if err == nil {
		fmt.Fprintln(out, "Stopped.")
	}
	return err
}

// runServices makes the object graph, starts what serves and follows the log, and stops it in the end.
func runServices(
	ctx context.Context, c config, logger *slog.Logger, out io.Writer, listener net.Listener, opened *resources,
) error {
	app := fx.New(graph(ctx, c, logger, out, listener, opened))
	if err := app.Err(); err != nil {
		return explain(ctx, c, err)
	}
	if err := app.Start(ctx); err != nil {
		return explain(ctx, c, err)
	}
	var exit fx.ShutdownSignal
	select {
	case <-ctx.Done():
	case exit = <-app.Wait():
	}
	signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // which main does as well, but maybe a moment after the promise
	fmt.Fprintln(out, "Stopping: running functions get a few seconds to finish. Ctrl-C again ends it at once.")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := app.Stop(stopping); err != nil {
		return fmt.Errorf("not everything stopped in order (the next start recovers): %w", err)
	}
	if exit.ExitCode != 0 {
		return errors.New("the server ended by itself; its log says why")
	}
	return nil
}

func listen(ctx context.Context, c config) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.address())
	var dns *net.DNSError
	var errno syscall.Errno
	switch {
	case err == nil:
		return listener, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on %s: something else does, maybe another VoltRun; choose another port with PORT", c.address())
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &dns):
		return nil, fmt.Errorf("cannot listen on %s: %s is no address of this host; correct VOLTRUN_HOST, or leave it out", c.address(), c.Host)
	case errors.As(err, &errno):
		return nil, fmt.Errorf("cannot listen on %s: %w; choose another port with PORT", c.address(), errno)
	}
	return nil, fmt.Errorf("cannot listen on %s: %w", c.address(), err)
}

// explain finds what a person can do something about in fx's account of what it was doing.
func explain(ctx context.Context, c config, err error) error {
	cause := dig.RootCause(err)
	if privatepg.IsInUse(cause) {
		return fmt.Errorf("%w (and a PORT of its own); nothing in %s was touched", cause, c.DataDir)
	}
	return interruption(ctx, cause)
}

// announce says what was started and where to go next, once everything runs.
func announce(lc fx.Lifecycle, c config, db database, runtimes *runners.Runtimes, driver sandbox.Driver, _ *http.Server, out io.Writer) {
	lc.Append(fx.StartHook(func() {
		url := "http://" + c.address()
		fmt.Fprintf(out, "\nVoltRun %s is ready after %s.\n", version, time.Since(processStart).Round(10*time.Millisecond))
		fmt.Fprintf(out, "  open       %s\n", url)
		fmt.Fprintf(out, "  history    %s\n", db.about)
		fmt.Fprintf(out, "  runtimes   %s\n", strings.Join(runtimes.Available(), ", "))
		fmt.Fprintf(out, "  isolation  %s\n", describeIsolation(driver.Enforcement()))
		fmt.Fprintf(out, "  next       make demo\n")
		fmt.Fprintf(out, "  stop       Ctrl-C\n")
		if !c.loopbackOnly() {
			fmt.Fprintf(out, "  WARNING    %s can be reached from the network. Put a proxy with TLS before it.\n", c.address())
		}
		fmt.Fprintln(out)
	}))
}

// garbagePercent lets the heap, which is small, grow to five times what is in use before it is collected. At Go's default,
// collecting took a tenth of the processors' time under load.
const garbagePercent = 400

// spendMemory trades memory for time, unless the operator has said what he wants.
func spendMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(garbagePercent)
	}
}

var processStart = time.Now()

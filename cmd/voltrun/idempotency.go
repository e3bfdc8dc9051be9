package main

import (
	"context"
	"log/slog"
	"time"

	"go.uber.org/fx"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// pruneInterval is how long an answer may stay beyond its time.
const pruneInterval = time.Hour

func newIdempotency(
	ctx context.Context, handlers *commands.Handlers, store *postgres.Store, keys *eventstore.KeyRing,
) (*commands.Idempotency, error) {
	root, err := keys.SystemKey(ctx, "idempotency")
	if err != nil {
		return nil, err
	}
	return commands.NewIdempotency(handlers, store, root), nil
}

// pruneAnswers deletes the answers whose time is over, every hour: some show a secret.
func pruneAnswers(lc fx.Lifecycle, idempotency *commands.Idempotency, logger *slog.Logger) {
	pruning, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	work := func() {
		defer close(stopped)
		for pruning.Err() == nil {
			if _, err := idempotency.Prune(pruning); err != nil && pruning.Err() == nil {
				logger.Warn("answers whose time is over were not deleted", "error", err)
			}
			select {
			case <-time.After(pruneInterval):
			case <-pruning.Done():
			}
		}
	}
	lc.Append(fx.StartStopHook(func() { go work() }, func() { stop(); <-stopped }))
}

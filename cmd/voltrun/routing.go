package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/runners"
)

func newFeed(store *postgres.Store, logger *slog.Logger) *feed.Feed {
	return feed.New(store.Pool(), store, logger)
}

func newRouter(store *postgres.Store, logger *slog.Logger) (*message.Router, error) {
	return feed.NewRouter(feed.NewPublisher(store), logger)
}

// followLog routes the log to the projections.
func followLog(router *message.Router, log *feed.Feed, codec *eventstore.Codec) *projections.Live {
	return projections.Follow(router, log, codec, projections.All())
}

// requestsAtOnce bounds how many requests are held while they are offered.
const requestsAtOnce = 1000

// runRequested routes accepted executions that wait to the executor, and changes of functions to their processes. What it knows of them is in memory, so it follows the
// log from before the first one that waits.
func runRequested(router *message.Router, log *feed.Feed, executor *runners.Executor, pool *runners.Pool, recorder *recorder, logger *slog.Logger) {
	tail := log.Tail("executor")
	keeper := &backlogKeeper{tail: tail, executor: executor, logger: logger}
	router.AddConsumerHandler("executor", feed.All, tail, func(msg *message.Message) error {
		return feed.InRange(msg, func(ctx context.Context, from, to eventstore.Position) error {
			if err := recorder.offer(ctx, executor, from, to); err != nil {
				return err
			}
			changed, err := recorder.store.Changed(ctx, from, to)
			if err != nil {
				return err
			}
			for _, function := range changed {
				pool.Retire(function)
			}
			keeper.keep(ctx, to)
			return nil
		})
	})
}

// offer shows the executor what waits in a range of the log.
func (r *recorder) offer(ctx context.Context, executor *runners.Executor, from, to eventstore.Position) error {
	for {
		requests, err := r.store.Unclaimed(ctx, from, to, requestsAtOnce)
		if err != nil {
			return err
		}
		waiting, err := r.waiting(ctx, requests)
		if err != nil {
			return err
		}
		for _, w := range waiting {
			executor.Offer(w)
		}
		if len(requests) < requestsAtOnce {
			return nil
		}
		from = requests[len(requests)-1].Position + 1
	}
}

// keepEvery is how often it is kept how far the executor's backlog reaches. A start reads from there.
const keepEvery = 5 * time.Second

// backlogKeeper keeps how far the executor's backlog reaches.
type backlogKeeper struct {
	tail     *feed.Tail
	executor *runners.Executor
	logger   *slog.Logger
	kept     time.Time
}

func (k *backlogKeeper) keep(ctx context.Context, seen eventstore.Position) {
	if time.Since(k.kept) < keepEvery {
		return
	}
	k.kept = time.Now()
	if err := k.tail.Keep(ctx, eventstore.Position(k.executor.Waits(int64(seen)))); err != nil {
		k.logger.WarnContext(ctx, "it could not be kept how far the backlog reaches", "error", err)
	}
}

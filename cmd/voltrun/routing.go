package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
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

// runRequested routes accepted executions to the executor. Its gate leaves them in the log while no slot is free.
func runRequested(router *message.Router, log *feed.Feed, executor *runners.Executor, recorder *recorder, logger *slog.Logger) {
	topic := domain.ExecutionRequested{}.EventType()
	router.AddConsumerHandler("executor", topic, log.Events("executor", executor), func(msg *message.Message) error {
		event, err := feed.Event(msg)
		if err != nil {
			return err
		}
		err = executor.Execute(msg.Context(), event.StreamID)
		switch {
		case errors.Is(err, runners.ErrStopped):
			return context.Canceled // it stays in the log for the next start
		case err == nil || feed.Passing(err):
			return err
		}
		logger.Error("an execution cannot be run", "execution", event.StreamID, "error", err)
		return recorder.Abandon(msg.Context(), event.StreamID, uuid.Nil, domain.ExecutionFailed{
			ErrorType: domain.ErrorInternal,
			Error:     "VoltRun could not run this execution. The server's log says why.",
		})
	})
}

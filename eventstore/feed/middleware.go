package feed

import (
	"errors"
	"log/slog"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// PoisonTopic is where messages go that no attempt could handle. Its events keep the id, the account, the actor and the
// correlation of the original, and say why in their headers.
const PoisonTopic = "feed.poisoned"

// Abort gives the transaction of a failed message up, so that everything in it is read again after a while, or, when
// that cannot help, the page consumer pauses. It belongs outside of all other middleware.
func Abort(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		produced, err := h(msg)
		t := transactionOf(msg.Context())
		if err == nil || t == nil {
			return produced, err
		}
		t.abort(err)
		return nil, nil
	}
}

// poison publishes messages that cannot be handled to PoisonTopic and lets the consumer go on behind them. Pages are
// never skipped, and failures that pass are no fault of the message.
func poison(publisher message.Publisher, logger *slog.Logger) (message.HandlerMiddleware, error) {
	publish, err := middleware.PoisonQueueWithFilter(publisher, PoisonTopic, func(err error) bool { return !Passing(err) })
	if err != nil {
		return nil, err
	}
	return func(h message.HandlerFunc) message.HandlerFunc {
		poisoned := publish(func(msg *message.Message) ([]*message.Message, error) {
			produced, err := h(msg)
			if err != nil && !Passing(err) {
				logger.Error("a message cannot be handled", "handler", message.HandlerNameFromCtx(msg.Context()),
					"message", msg.UUID, "error", err, "goes_to", PoisonTopic)
			}
			return produced, err
		})
		return func(msg *message.Message) ([]*message.Message, error) {
			if message.SubscribeTopicFromCtx(msg.Context()) == All {
				return h(msg)
			}
			return poisoned(msg)
		}
	}, nil
}

// retry tries a message again a few times within its transaction, unless that is broken.
func retry() message.HandlerMiddleware {
	return middleware.Retry{
		MaxRetries: 3, InitialInterval: 25 * time.Millisecond, Multiplier: 2, MaxInterval: time.Second,
		ShouldRetry: func(params middleware.RetryParams) bool { return !Passing(params.Err) },
	}.Middleware
}

// Savepoint undoes what a failed attempt has written in the message's transaction and heals the transaction from the
// failure, so that the next attempt starts clean. It belongs inside of all other middleware.
func Savepoint(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (produced []*message.Message, err error) {
		tx, ok := wsql.TxFromContext(msg.Context())
		if !ok {
			return h(msg)
		}
		if _, err := tx.ExecContext(msg.Context(), "savepoint attempt"); err != nil {
			return nil, err
		}
		end := "rollback to savepoint attempt; release savepoint attempt" // also for a handler that panics
		defer func() {
			if _, endErr := tx.ExecContext(msg.Context(), end); endErr != nil {
				produced, err = nil, errors.Join(err, endErr)
			}
		}()
		if produced, err = h(msg); err == nil {
			end = "release savepoint attempt"
		}
		return produced, err
	}
}

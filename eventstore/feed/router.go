package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// closeTimeout is how long the router waits for handlers when it is closed.
const closeTimeout = 10 * time.Second

// NewRouter makes a router with the middleware that handlers of the log need, from the outside in: Abort, poison (for
// events; pages pause instead), correlation, recoverer, retry, Savepoint. The publisher takes what is poisoned.
func NewRouter(publisher message.Publisher, logger *slog.Logger) (*message.Router, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: closeTimeout}, newLogger(logger))
	if err != nil {
		return nil, fmt.Errorf("make the router: %w", err)
	}
	poison, err := poison(publisher, logger)
	if err != nil {
		return nil, fmt.Errorf("make the router: %w", err)
	}
	router.AddMiddleware(Abort, poison, middleware.CorrelationID, middleware.Recoverer, retry(), Savepoint)
	return router, nil
}

// quietLogger keeps Watermill's own remarks at debug level, and so its complaints about what the end of a context undid.
type quietLogger struct{ watermill.LoggerAdapter }

func newLogger(logger *slog.Logger) watermill.LoggerAdapter {
	return quietLogger{watermill.NewSlogLoggerWithLevelMapping(logger, map[slog.Level]slog.Level{
		slog.LevelInfo: slog.LevelDebug,
	})}
}

// Error implements watermill.LoggerAdapter.
func (l quietLogger) Error(msg string, err error, fields watermill.LogFields) {
	if errors.Is(err, context.Canceled) {
		l.Debug(msg, fields.Add(watermill.LogFields{"error": err}))
		return
	}
	l.LoggerAdapter.Error(msg, err, fields)
}

// With implements watermill.LoggerAdapter.
func (l quietLogger) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return quietLogger{l.LoggerAdapter.With(fields)}
}

// Package feed delivers the log to handlers through Watermill.
//
// The events table itself is the topic: watermill-sql's subscriber reads it in the order of positions, in a transaction
// that also moves the consumer's checkpoint, and several processes that read for one consumer take turns. There are two
// ways to read. Events delivers one message for each event of one type, to consumers that act on events one by one.
// Pages delivers one message for each range of positions, to projections: they read the range natively in the same
// transaction, so that what they write and their checkpoint are committed together or not at all.
//
// An idle system polls nothing: a consumer that has seen everything waits until the notifier wakes it. Only while
// somebody waits for a page consumer is its checkpoint looked at now and then, because another process may move it.
package feed

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
)

// All is the topic of every event, the only one that Pages delivers.
const All = "$all"

// What one transaction reads at most. The limits in bytes bound the memory that a backlog of large events takes; an
// event larger than the limit comes alone.
const (
	pageEvents  = 1000
	batchEvents = 100
	readBytes   = 16 << 20
)

// Notifier wakes whoever waits for events.
type Notifier interface {
	// Subscribe returns a channel that holds a token whenever events may have been appended since the token was last
	// taken. cancel ends it.
	Subscribe() (wake <-chan struct{}, cancel func())
}

// Gate tells how much a handler can take. While it can take nothing, the work stays in the log, where another process
// may fetch it, and no transaction is open.
type Gate interface {
	// Free is how many messages the handler can take now.
	Free() int
	// Wait returns when Free may have grown, or with ctx's error.
	Wait(ctx context.Context) error
}

// Feed makes subscribers of the log.
type Feed struct {
	pool     *pgxpool.Pool
	notifier Notifier
	logger   *slog.Logger
}

// New makes a feed. A subscriber takes one of the pool's connections while it has something to read and handle, so the
// pool must have more connections than there are subscribers.
func New(pool *pgxpool.Pool, notifier Notifier, logger *slog.Logger) *Feed {
	return &Feed{pool: pool, notifier: notifier, logger: logger}
}

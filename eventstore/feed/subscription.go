package feed

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// The wait after a failure doubles from the first to the last.
const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = time.Second
)

var errNotCommitted = errors.New("the last transaction was not committed")

// source is what a subscription reads.
type source interface {
	// ready returns when the next read may begin.
	ready(ctx context.Context) error
	// query reads what follows the checkpoint and locks the checkpoint.
	query(topic, consumer string) wsql.Query
	// scan makes a message of a row and tells its first position. sql.ErrNoRows says that there is nothing to read.
	scan(row wsql.Scanner) (first int64, r wsql.Row, err error)
	// hold is told that a handler gave up. It returns true when it has kept the subscription until it should go on, and
	// false when that is only a matter of waiting a little.
	hold(ctx context.Context, cause error) bool
}

// subscription is one run of watermill-sql's loop. It plays every part that the loop asks for: the Beginner, the
// adapters for the log's tables, and the BackoffManager that waits for the notifier where the default one sleeps.
type subscription struct {
	*sql.DB
	ctx    context.Context // of the transactions and of all waiting; see Subscriber.start
	source source
	wake   <-chan struct{}
	logger *slog.Logger

	current  atomic.Pointer[transaction] // what the messages that are delivered now belong to
	acked    int64                       // the position that the last transaction should have left; 0 when known
	failures int                         // in a row
}

// BeginTx implements wsql.Beginner. The transaction has a connection of its own, which handlers may use natively.
func (s *subscription) BeginTx(_ context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
	if err := s.source.ready(s.ctx); err != nil {
		return nil, err
	}
	conn, err := s.DB.Conn(s.ctx)
	if err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(s.ctx, opts)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.current.Store(&transaction{conn: conn, tx: tx})
	return tx, nil
}

// UnmarshalMessage implements wsql.SchemaAdapter. It is also where a failed commit shows, which the loop only logs:
// without the wait that follows, the loop would try the same again at full speed.
func (s *subscription) UnmarshalMessage(row wsql.Scanner) (wsql.Row, error) {
	first, r, err := s.source.scan(row)
	if err != nil {
		return wsql.Row{}, err
	}
	if s.acked == 0 {
		return r, nil
	}
	committed := first > s.acked
	s.acked = 0
	if !committed {
		return wsql.Row{}, errNotCommitted
	}
	s.failures = 0
	return r, nil
}

// HandleError implements wsql.BackoffManager. The loop calls it after every transaction; what has to be waited for is
// waited for here, where no transaction is open.
func (s *subscription) HandleError(_ watermill.LoggerAdapter, noMsg bool, err error) time.Duration {
	cause := s.endTransaction()
	switch {
	case s.ctx.Err() != nil:
	case cause != nil && s.source.hold(s.ctx, cause):
		s.acked, s.failures = 0, 0
	case cause != nil:
		s.backOff(cause)
	case err != nil:
		s.backOff(err)
	case noMsg:
		s.failures = 0
		s.sleep()
	}
	return 0
}

// endTransaction gives the connection back and returns why a handler gave the transaction up, if one did.
func (s *subscription) endTransaction() error {
	t := s.current.Swap(nil)
	if t == nil {
		return nil
	}
	_ = t.conn.Close() // the transaction is over, and a broken connection is thrown away by the pool
	return t.aborted()
}

func (s *subscription) sleep() {
	select {
	case <-s.wake:
	case <-s.ctx.Done():
	}
}

func (s *subscription) backOff(cause error) {
	s.acked = 0
	wait := min(firstBackoff<<min(s.failures, 10), lastBackoff)
	s.failures++
	level := slog.LevelWarn
	if wait == lastBackoff {
		level = slog.LevelDebug // it has been said often enough
	}
	s.logger.Log(s.ctx, level, "reading the log failed; trying again", "error", cause, "in", wait)
	select {
	case <-time.After(wait):
	case <-s.ctx.Done():
	}
}

// deliver hands the loop's messages on, with their transaction. The rest of a batch whose transaction was given up is
// not delivered: it will be read again.
func (s *subscription) deliver(from <-chan *message.Message, to chan<- *message.Message) {
	for msg := range from {
		t := s.current.Load()
		if t == nil || t.aborted() != nil {
			msg.Ack()
			continue
		}
		msg.SetContext(context.WithValue(msg.Context(), transactionKey{}, t))
		select {
		case to <- msg:
		case <-msg.Context().Done():
		}
	}
}

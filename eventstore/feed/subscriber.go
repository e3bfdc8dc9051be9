package feed

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/stdlib"
)

// never stands for the deadline that watermill-sql insists on. When one passes, it commits what the unfinished handler
// has written so far and then delivers the message again.
const never = 100 * 365 * 24 * time.Hour

// resendAfter is the wait before a message comes again that was nacked by a handler outside of NewRouter's middleware.
const resendAfter = 10 * time.Millisecond

// Topics stand in the SQL as literals, so that the planner can match them with partial indexes.
var validTopic = regexp.MustCompile(`^[A-Za-z0-9.:_$-]+$`)

// ErrClosed answers Subscribe after Close.
var ErrClosed = errors.New("the subscriber is closed")

// Subscriber is a message.Subscriber that reads the log for one consumer. Give every handler its own.
type Subscriber struct {
	feed     *Feed
	consumer string
	open     func(topic string) (source, error)

	closing context.Context
	close   context.CancelFunc
	mu      sync.Mutex // orders Subscribe and Close
	running sync.WaitGroup
}

func newSubscriber(feed *Feed, consumer string, open func(topic string) (source, error)) *Subscriber {
	s := &Subscriber{feed: feed, consumer: consumer, open: open}
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// Subscribe implements message.Subscriber. A consumer that is new starts at the beginning of the log.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if !validTopic.MatchString(topic) {
		return nil, fmt.Errorf("topic %q must consist of letters, digits and .:_$- only", topic)
	}
	src, err := s.open(topic)
	if err != nil {
		return nil, err
	}
	if err := s.feed.ensureCheckpoint(ctx, s.consumer, topic); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Err() != nil {
		return nil, ErrClosed
	}
	return s.start(ctx, topic, src)
}

// start runs watermill-sql's loop. Its context ends last: the loop commits whatever is open when it hears of the end,
// also what a handler is still writing, so the transactions' context has to end, and undo that, before.
func (s *Subscriber) start(ctx context.Context, topic string, src source) (<-chan *message.Message, error) {
	txCtx, cancelTx := context.WithCancel(context.WithoutCancel(ctx))
	loopCtx, cancelLoop := context.WithCancel(context.WithoutCancel(ctx))
	stop := func() { cancelTx(); cancelLoop() }
	wake, unsubscribe := s.feed.notifier.Subscribe()
	sub := &subscription{
		DB: stdlib.OpenDBFromPool(s.feed.pool), ctx: txCtx, source: src, wake: wake,
		logger: s.feed.logger.With("consumer", s.consumer, "topic", topic),
	}
	messages, err := sub.loop(loopCtx, s.consumer, topic, newLogger(s.feed.logger))
	if err != nil {
		stop()
		unsubscribe()
		return nil, errors.Join(err, sub.DB.Close())
	}
	noLongerClosing := context.AfterFunc(s.closing, stop)
	noLongerEnding := context.AfterFunc(ctx, stop)
	out := make(chan *message.Message)
	s.running.Go(func() {
		sub.deliver(messages, out)
		noLongerClosing()
		noLongerEnding()
		stop()
		unsubscribe()
		_ = sub.DB.Close() // gives nothing back that the pool does not have already
		close(out)
	})
	return out, nil
}

// Close ends all subscriptions and returns when they have ended, whatever they were waiting for. What a handler was
// doing in its transaction is undone and will be read again. It may be called twice.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.close()
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// loop starts a watermill-sql subscriber of its own for each subscription: everything it asks for is then called from
// one goroutine, and it is never closed, only its context ends, which avoids the races of its Close.
func (s *subscription) loop(ctx context.Context, consumer, topic string, logger watermill.LoggerAdapter) (<-chan *message.Message, error) {
	deadline := never
	inner, err := wsql.NewSubscriber(s, wsql.SubscriberConfig{
		ConsumerGroup: consumer, SchemaAdapter: s, OffsetsAdapter: s, BackoffManager: s,
		AckDeadline: &deadline, ResendInterval: resendAfter,
	}, logger)
	if err != nil {
		return nil, err
	}
	return inner.Subscribe(ctx, topic)
}

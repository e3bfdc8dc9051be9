package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/voltrun/voltrun/eventstore"
)

// How a tail reads: so many positions at once, and not more often than that. What makes haste does not wait for a tail.
const (
	tailPage  = 100_000
	tailPause = 20 * time.Millisecond
)

// Tail is a message.Subscriber of the topic All that delivers the log in ranges of positions to each process that has one,
// beside each other and not in turns, and writes nothing. It is for those who keep what they have read in memory.
//
// It starts behind its consumer's checkpoint, which moves only when Keep says so.
type Tail struct {
	feed     *Feed
	consumer string
	closing  context.Context
	close    context.CancelFunc
	running  sync.WaitGroup
}

// Tail returns a tail for a consumer.
func (f *Feed) Tail(consumer string) *Tail {
	t := &Tail{feed: f, consumer: consumer}
	t.closing, t.close = context.WithCancel(context.Background())
	return t
}

// Subscribe implements message.Subscriber.
func (t *Tail) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if topic != All {
		return nil, fmt.Errorf("consumer %s reads the topic %s, not %q", t.consumer, All, topic)
	}
	if err := t.feed.ensureCheckpoint(ctx, t.consumer, topic); err != nil {
		return nil, err
	}
	from, err := t.feed.checkpoint(ctx, t.consumer, topic)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(t.closing, cancel)
	out := make(chan *message.Message)
	t.running.Go(func() {
		defer cancel()
		defer close(out)
		t.follow(ctx, from, out)
	})
	return out, nil
}

// follow delivers what is behind a position, and then what comes.
func (t *Tail) follow(ctx context.Context, position eventstore.Position, out chan<- *message.Message) {
	wake, unsubscribe := t.feed.notifier.Subscribe()
	defer unsubscribe()
	for ctx.Err() == nil {
		head, err := t.head(ctx)
		switch {
		case err != nil:
			t.feed.logger.WarnContext(ctx, "the head of the log could not be read; trying again", "consumer", t.consumer, "error", err)
			pause(ctx, lastBackoff)
		case head == position:
			select {
			case <-wake:
			case <-ctx.Done():
			}
		default:
			to := min(head, position+tailPage)
			if t.deliver(ctx, Page{From: position + 1, To: to}, out) {
				position = to
			}
		}
		pause(ctx, tailPause)
	}
}

func (t *Tail) head(ctx context.Context) (head eventstore.Position, err error) {
	err = t.feed.pool.QueryRow(ctx, "select position from head").Scan(&head)
	return head, err
}

// deliver tells whether the page was handled.
func (t *Tail) deliver(ctx context.Context, page Page, out chan<- *message.Message) bool {
	payload, err := json.Marshal(page)
	if err != nil {
		return false
	}
	msg := message.NewMessage(fmt.Sprintf("%d-%d", page.From, page.To), payload)
	msg.SetContext(ctx)
	select {
	case out <- msg:
	case <-ctx.Done():
		return false
	}
	select {
	case <-msg.Acked():
		return true
	case <-msg.Nacked():
		pause(ctx, lastBackoff)
	case <-ctx.Done():
	}
	return false
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Close implements message.Subscriber.
func (t *Tail) Close() error {
	t.close()
	t.running.Wait()
	return nil
}

// Keep moves the checkpoint forward: whoever starts later reads what is behind position.
func (t *Tail) Keep(ctx context.Context, position eventstore.Position) error {
	_, err := t.feed.pool.Exec(ctx,
		"update checkpoints set position = $3 where consumer = $1 and topic = $2 and position < $3", t.consumer, All, position)
	if err != nil {
		return fmt.Errorf("keep the checkpoint of %s: %w", t.consumer, err)
	}
	return nil
}

// InRange lets a handler of a tail work on the range of its message.
func InRange(msg *message.Message, handle func(ctx context.Context, from, to eventstore.Position) error) error {
	var page Page
	if err := json.Unmarshal(msg.Payload, &page); err != nil {
		return fmt.Errorf("read the range of message %s: %w", msg.UUID, err)
	}
	return handle(msg.Context(), page.From, page.To)
}

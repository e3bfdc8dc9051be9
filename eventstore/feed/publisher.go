package feed

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// Publisher is a message.Publisher that appends messages to the log, where Events finds them again. The topic is the
// event type and names the stream.
type Publisher struct{ store eventstore.Store }

// NewPublisher makes a publisher that appends to the store.
func NewPublisher(store eventstore.Store) *Publisher { return &Publisher{store: store} }

// Publish implements message.Publisher. The messages are appended all or nothing, and are durable when it returns. The
// first one's context bounds the wait.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if !validTopic.MatchString(topic) || topic == All {
		return fmt.Errorf("topic %q must consist of letters, digits and .:_$- only, and not be %s", topic, All)
	}
	events := make([]eventstore.NewEvent, len(messages))
	for i, msg := range messages {
		events[i] = newEvent(topic, msg)
	}
	stream := uuid.NewSHA1(namespace, []byte(topic))
	write := eventstore.Write{StreamID: stream, Expected: eventstore.Any, Events: events}
	if _, err := p.store.Append(messages[0].Context(), write); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// Close implements message.Publisher. It does nothing: the store is the caller's, and a router closes a publisher once
// for every handler that has used it.
func (p *Publisher) Close() error { return nil }

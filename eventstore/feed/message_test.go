package feed_test

import (
	"context"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
)

// subscribe returns the messages of a topic. They must be acked by the test.
func (l *log) subscribe(t testing.TB, topic string) <-chan *message.Message {
	t.Helper()
	subscriber := l.feed.Events("test", nil)
	messages, err := subscriber.Subscribe(context.Background(), topic)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, subscriber.Close()) })
	return messages
}

func TestAMessageTellsItsEvent(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	full := newEvent("work", []byte(`{"a":1}`))
	full.SchemaVersion = 3
	full.Metadata = eventstore.Metadata{
		AccountID: uuid.New(), Actor: domain.Actor{Kind: domain.ActorUser, ID: uuid.New()},
		CorrelationID: uuid.New(), CausationID: uuid.New(), Headers: map[string]string{"trace": "t"},
	}
	write := eventstore.Write{StreamID: uuid.New(), Events: []eventstore.NewEvent{full, newEvent("work", []byte{})}}
	_, err := l.store.Append(context.Background(), write)
	require.NoError(t, err)
	messages := l.subscribe(t, "work")
	for want, err := range l.store.ReadAll(context.Background(), 0) {
		require.NoError(t, err)
		msg := receive(t, messages)
		got, err := feed.Event(msg)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, want.ID.String(), msg.UUID)
		msg.Ack()
	}
}

func TestAPublishedMessageComesBackAsItWas(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	upper := message.NewMessage("0F5B8A2E-3B0E-4C52-9F5B-0D5E6A7B8C9D", []byte("upper case is not a UUID's usual form"))
	odd := message.NewMessage("order 7/2", nil)
	odd.Metadata = message.Metadata{"account_id": uuid.NewString(), "correlation_id": "not a uuid", "color": "red"}
	published := []*message.Message{upper, odd, message.NewMessage(uuid.NewString(), []byte{0, 1, 255})}
	require.NoError(t, feed.NewPublisher(l.store).Publish("work", published...))
	messages := l.subscribe(t, "work")
	for _, want := range published {
		msg := receive(t, messages)
		require.Equal(t, want.UUID, msg.UUID)
		require.Equal(t, string(want.Payload), string(msg.Payload))
		require.Subset(t, msg.Metadata, want.Metadata)
		require.NotContains(t, msg.Metadata, "message_uuid")
		require.Equal(t, "system", msg.Metadata[feed.KeyActorKind])
		msg.Ack()
	}
}

func TestAMessageFromElsewhereIsNotAnEventOrAPage(t *testing.T) {
	t.Parallel()
	msg := message.NewMessage(uuid.NewString(), []byte("{}"))
	_, err := feed.Event(msg)
	require.ErrorContains(t, err, "is not an event of the log")
	require.ErrorContains(t, feed.InPage(msg, nothing), "does not come from a page consumer")
}

func TestATopicThatCouldBeSQLIsRefused(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	for _, topic := range []string{"", "a'b", "a b", "a;b", "a\"b", "ä"} {
		_, err := l.feed.Events("test", nil).Subscribe(context.Background(), topic)
		require.ErrorContains(t, err, "must consist of", topic)
		err = feed.NewPublisher(l.store).Publish(topic, message.NewMessage(uuid.NewString(), nil))
		require.ErrorContains(t, err, "must consist of", topic)
	}
	_, err := l.feed.Events("test", nil).Subscribe(context.Background(), feed.All)
	require.ErrorContains(t, err, "reads events of one type")
	_, err = l.feed.Pages("test").Subscribe(context.Background(), "work")
	require.ErrorContains(t, err, "reads the topic $all")
}

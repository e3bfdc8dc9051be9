package feed_test

import (
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/voltrun/voltrun/eventstore/feed"
)

// pubSubs gives each test of Watermill's suite a database of its own, shared by all that the test constructs.
type pubSubs struct {
	mu   sync.Mutex
	logs map[string]*log
}

func (p *pubSubs) log(t *testing.T) *log {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logs == nil {
		p.logs = map[string]*log{}
	}
	if p.logs[t.Name()] == nil {
		p.logs[t.Name()] = openLog(t)
	}
	return p.logs[t.Name()]
}

func (p *pubSubs) group(t *testing.T, consumer string) (message.Publisher, message.Subscriber) {
	l := p.log(t)
	return feed.NewPublisher(l.store), l.feed.Events(consumer, nil)
}

func (p *pubSubs) any(t *testing.T) (message.Publisher, message.Subscriber) {
	return p.group(t, "test")
}

func TestWatermillsOwnSuitePasses(t *testing.T) {
	t.Parallel()
	p := &pubSubs{}
	tests.TestPubSub(t, tests.Features{ConsumerGroups: true, GuaranteedOrder: true, Persistent: true}, p.any, p.group)
}

// As long as nothing breaks, nothing is delivered twice. The suite leaves out two tests for pubsubs that promise this,
// so it runs once with the promise and once without.
func TestWatermillsOwnSuitePassesWithExactlyOnceDelivery(t *testing.T) {
	t.Parallel()
	p := &pubSubs{}
	features := tests.Features{ConsumerGroups: true, GuaranteedOrder: true, Persistent: true, ExactlyOnceDelivery: true}
	tests.TestPubSub(t, features, p.any, p.group)
}

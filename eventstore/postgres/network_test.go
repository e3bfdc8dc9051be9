package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// proxy stands between a store and Postgres, as a network does that can fail in the ways networks do.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	links []*link
	down  bool
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	mu             sync.Mutex  // held while the link swallows what is sent
	losing         atomic.Bool // breaks when the server answers next
}

// throughProxy returns a DSN for the same database that leads through a proxy.
func throughProxy(t *testing.T, dsn string) (string, *proxy) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	p := &proxy{listener: listener, target: filepath.Join(config.Host, fmt.Sprintf(".s.PGSQL.%d", config.Port))}
	go p.serve()
	t.Cleanup(p.cut)
	return fmt.Sprintf("host=%s port=5432 user=%s dbname=%s", dir, config.User, config.Database), p
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.target)
		if err != nil || p.isDown() {
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		p.links = append(p.links, l)
		p.mu.Unlock()
		go l.copy(client, server)
		go l.copy(server, client)
	}
}

func (l *link) copy(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if to == l.client && l.losing.Load() {
			n, err = 0, io.EOF
		}
		l.mu.Lock()
		_, writeErr := to.Write(buf[:n])
		l.mu.Unlock()
		if err != nil || writeErr != nil {
			_, _ = l.client.Close(), l.server.Close()
			return
		}
	}
}

// swallow lets what is sent on the connections of now wait without a word, as a firewall does that has forgotten them. It
// reaches its destination with deliver.
func (p *proxy) swallow() (deliver func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := p.links
	for _, l := range links {
		l.mu.Lock()
	}
	return sync.OnceFunc(func() {
		for _, l := range links {
			l.mu.Unlock()
		}
	})
}

// loseAnswers breaks each of the connections of now at the moment when the server answers on it: what was asked is done,
// and nobody is told.
func (p *proxy) loseAnswers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.losing.Store(true)
	}
}

func (p *proxy) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// outage breaks all connections, and new ones until it is over.
func (p *proxy) outage() (over func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for _, l := range p.links {
		_, _ = l.client.Close(), l.server.Close()
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.down = false
	}
}

// cut breaks all connections and takes no new ones.
func (p *proxy) cut() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		_, _ = l.client.Close(), l.server.Close()
	}
}

func TestABatchThatTheNetworkSwallowsIsWrittenOnceAllTheSame(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxied, network := throughProxy(t, dsn)
	watcher := openStore(t, dsn)
	s := openStore(t, proxied)
	s.SetBatchTimeout(300 * time.Millisecond)
	ctx := context.Background()
	id := uuid.New()
	_, err := s.Append(ctx, storetest.To(id, eventstore.New, "before"))
	require.NoError(t, err)

	for round := range 3 {
		deliver := network.swallow()
		appended := make(chan error, 1)
		go func() {
			_, err := s.Append(ctx, storetest.To(id, eventstore.Any, fmt.Sprint(round)))
			appended <- err
		}()
		select {
		case err := <-appended:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			t.Fatal("the append hangs")
		}
		deliver() // what the old connection still held comes too late
	}
	time.Sleep(100 * time.Millisecond)
	var seen []string
	for _, e := range storetest.RequireSound(t, watcher) {
		seen = append(seen, string(e.Data))
	}
	require.Equal(t, []string{"before", "0", "1", "2"}, seen)
}

func TestAnAppendWhoseAnswerIsLostIsWrittenOnceAndAnswered(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxied, network := throughProxy(t, dsn)
	watcher := openStore(t, dsn)
	s := openStore(t, proxied)
	ctx := context.Background()
	id := uuid.New()
	_, err := s.Append(ctx, storetest.To(id, eventstore.New, "0"))
	require.NoError(t, err)
	for i, expected := range []eventstore.ExpectedVersion{eventstore.Any, eventstore.Exactly(2), eventstore.Any} {
		network.loseAnswers()
		position, err := s.Append(ctx, storetest.To(id, expected, fmt.Sprint(i+1)))
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(i+2), position)
	}
	require.Len(t, storetest.RequireSound(t, watcher), 4)
}

func TestAnAppendSitsOutAnOutageLongerThanABatchMayTake(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxied, network := throughProxy(t, dsn)
	watcher := openStore(t, dsn)
	s := openStore(t, proxied)
	s.SetBatchTimeout(200 * time.Millisecond)
	_, err := s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "before"))
	require.NoError(t, err)
	over := network.outage()
	appended := make(chan error, 1)
	go func() {
		_, err := s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "during"))
		appended <- err
	}()
	select {
	case err := <-appended:
		t.Fatalf("the append did not wait for the end of the outage: %v", err)
	case <-time.After(time.Second):
	}
	over()
	require.NoError(t, <-appended)
	require.Len(t, storetest.RequireSound(t, watcher), 2)
}

func TestTheLogIsNotWellWhileAppendsDoNotGetThrough(t *testing.T) {
	t.Parallel()
	proxied, network := throughProxy(t, pgtest.Database(t))
	s := openStore(t, proxied)
	_, err := s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "a"))
	require.NoError(t, err)
	require.NoError(t, s.Ping(context.Background()))
	deliver := network.swallow()
	defer deliver()
	go func() { _, _ = s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "b")) }()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		err := s.Ping(ctx)
		return err != nil && !errors.Is(err, context.DeadlineExceeded)
	}, 15*time.Second, 100*time.Millisecond)
}

func TestAStoreClosesWhileTheDatabaseIsAwayAndTheQueueIsFull(t *testing.T) {
	t.Parallel()
	proxied, network := throughProxy(t, pgtest.Database(t))
	s := openStore(t, proxied)
	network.cut()
	const appends = 6000 // more than the queue holds
	answers := make(chan error, appends)
	for range appends {
		go func() {
			_, err := s.Append(context.Background(), storetest.To(uuid.New(), eventstore.New, "a"))
			answers <- err
		}()
	}
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the store does not close")
	}
	for range appends {
		require.ErrorIs(t, <-answers, eventstore.ErrClosed)
	}
}

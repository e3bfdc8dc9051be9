package feed_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// patience is how long a test waits for what must happen before it calls it missing.
const patience = 20 * time.Second

// prompt is how soon a subscriber has to be closed, whatever it is doing.
const prompt = time.Second

// log is a database of its own with everything that stands around a feed.
type log struct {
	dsn   string
	store *postgres.Store
	pool  *pgxpool.Pool // the feed's
	feed  *feed.Feed
}

func openLog(t testing.TB) *log {
	t.Helper()
	ctx := context.Background()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(ctx, dsn)
	require.NoError(t, err)
	l := openProcess(t, dsn)
	_, err = l.pool.Exec(ctx, "create table seen (consumer text, position bigint, primary key (consumer, position))")
	require.NoError(t, err)
	return l
}

// openProcess opens a database that is there, as one of several processes.
func openProcess(t testing.TB, dsn string) *log {
	t.Helper()
	ctx := context.Background()
	store, err := postgres.Open(ctx, dsn, uuid.New(), quiet())
	require.NoError(t, err)
	t.Cleanup(store.Close)
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = 60 // more than the fifty subscribers of Watermill's suite
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return &log{dsn: dsn, store: store, pool: pool, feed: feed.New(pool, store, quiet())}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// append appends n events of a type to a stream of their own and returns the last one's position.
func (l *log) append(t testing.TB, eventType string, n int) eventstore.Position {
	t.Helper()
	events := make([]eventstore.NewEvent, n)
	for i := range events {
		events[i] = newEvent(eventType, []byte(`{}`))
	}
	position, err := l.store.Append(context.Background(), eventstore.Write{StreamID: uuid.New(), Expected: eventstore.New, Events: events})
	require.NoError(t, err)
	return position
}

func newEvent(eventType string, data []byte) eventstore.NewEvent {
	e := eventstore.NewEvent{
		ID: uuid.New(), Type: eventType, SchemaVersion: 1,
		Metadata: eventstore.Metadata{Actor: domain.Actor{Kind: domain.ActorSystem}},
	}
	e.Data, e.Commitment = eventstore.Plain(data)
	return e
}

// router runs a router with these handlers until the test ends, and returns it when it runs.
func (l *log) router(t testing.TB, add func(*message.Router)) *message.Router {
	t.Helper()
	router, err := feed.NewRouter(feed.NewPublisher(l.store), quiet())
	require.NoError(t, err)
	add(router)
	run(t, router)
	return router
}

func run(t testing.TB, router *message.Router) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- router.Run(context.Background()) }()
	t.Cleanup(func() {
		require.NoError(t, router.Close())
		require.NoError(t, <-done)
	})
	select {
	case <-router.Running():
	case err := <-done:
		t.Fatalf("the router did not start: %v", err)
	}
}

// record is a handler of pages that writes every position into the table seen, whose key refuses repetitions, and then
// does what the test wants.
func record(consumer string, then func(ctx context.Context, tx feed.Tx, page feed.Page) error) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		return feed.InPage(msg, func(ctx context.Context, tx feed.Tx, page feed.Page) error {
			var positions []eventstore.Position
			for event, err := range page.Events(ctx, tx) {
				if err != nil {
					return err
				}
				positions = append(positions, event.Position)
			}
			if _, err := tx.Exec(ctx, "insert into seen select $1, unnest($2::bigint[])", consumer, positions); err != nil {
				return err
			}
			return then(ctx, tx, page)
		})
	}
}

func nothing(context.Context, feed.Tx, feed.Page) error { return nil }

// project runs a consumer of that name with the handler record until the test ends.
func (l *log) project(t testing.TB, name string, then func(ctx context.Context, tx feed.Tx, page feed.Page) error) *feed.Consumer {
	t.Helper()
	consumer := l.feed.Pages(name, "a", "b", "large", "work")
	l.router(t, func(r *message.Router) { r.AddConsumerHandler(name, feed.All, consumer, record(name, then)) })
	return consumer
}

// seen returns how many positions a consumer has written down.
func (l *log) seen(t testing.TB, consumer string) (n int) {
	t.Helper()
	l.query(t, &n, "select count(*) from seen where consumer = $1", consumer)
	return n
}

func (l *log) checkpoint(t testing.TB, consumer, topic string) (position eventstore.Position) {
	t.Helper()
	l.query(t, &position, "select position from checkpoints where consumer = $1 and topic = $2", consumer, topic)
	return position
}

// openTransactions is how many transactions stand open in the database and wait for their client.
func (l *log) openTransactions(t testing.TB) (n int) {
	t.Helper()
	l.query(t, &n, "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'")
	return n
}

// lockWaits is how many connections wait for a lock.
func (l *log) lockWaits(t testing.TB) (n int) {
	t.Helper()
	l.query(t, &n, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
	return n
}

// query reads one value, on a connection of its own that no test has broken.
func (l *log) query(t testing.TB, value any, sql string, args ...any) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, l.dsn)
	require.NoError(t, err)
	defer conn.Close(ctx)
	require.NoError(t, conn.QueryRow(ctx, sql, args...).Scan(value))
}

// breakConnections ends every other connection to the database.
func (l *log) breakConnections(t testing.TB) {
	t.Helper()
	var n int
	l.query(t, &n, `select count(pg_terminate_backend(pid)) from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid()`)
}

func wait(t testing.TB, consumer *feed.Consumer, position eventstore.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, consumer.Wait(ctx, position))
}

func eventually(t testing.TB, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, patience, 2*time.Millisecond, what)
}

// receive takes one message, which must come.
func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func promptly(t testing.TB, what string, do func()) {
	t.Helper()
	start := time.Now()
	do()
	require.Less(t, time.Since(start), prompt, what)
}

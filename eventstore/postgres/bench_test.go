package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

const (
	rounds      = 5 // of each contender, in turns, so that a busy moment of the machine hits all alike
	roundTime   = 700 * time.Millisecond
	payloadSize = 300 // bytes of an event

	// The ratios below which the writer has lost what it is for.
	leastUnordered = 1.8
	leastOrdered   = 10.0
)

// contender is a way to append one event, with the number of writers that use it at once.
type contender struct {
	name    string
	writers int
	append  func(ctx context.Context) error
	rates   []float64
	p50     []time.Duration
}

// BenchmarkAppend compares the log's appends with what Postgres does without it, in the same run and on the same
// server: one transaction an append without any order (a sequence gives the positions), and one transaction an append in
// order (the head row is locked). The ratios are what counts; the rates are this machine's.
func BenchmarkAppend(b *testing.B) {
	dsn := pgtest.Database(b)
	store := openStore(b, dsn)
	pool := baselinePool(b, dsn)
	group := func(ctx context.Context) error {
		w := storetest.To(uuid.New(), eventstore.New, "")
		w.Events[0].Data = payload
		_, err := store.Append(ctx, w)
		return err
	}
	log1, log32, log128 := &contender{name: "log", writers: 1, append: group}, &contender{name: "log", writers: 32, append: group},
		&contender{name: "log", writers: 128, append: group}
	unordered128 := &contender{name: "unordered, a transaction each", writers: 128, append: insertUnordered(pool)}
	ordered32 := &contender{name: "ordered, a transaction each", writers: 32, append: insertOrdered(pool)}
	all := []*contender{log1, log32, log128, unordered128, ordered32}
	for b.Loop() {
		for range rounds {
			for _, c := range all {
				c.run(b)
			}
		}
	}
	for _, c := range all {
		b.Logf("%-30s %4d writers %9.0f appends/s  median %s", c.name, c.writers, median(c.rates), median(c.p50).Round(10*time.Microsecond))
	}
	unordered, ordered := median(log128.rates)/median(unordered128.rates), median(log32.rates)/median(ordered32.rates)
	b.ReportMetric(unordered, "x-unordered@128")
	b.ReportMetric(ordered, "x-ordered@32")
	b.ReportMetric(median(log128.rates), "appends/s@128")
	require.GreaterOrEqual(b, unordered, leastUnordered, "appends are slower than they have to be, beside transactions without order")
	require.GreaterOrEqual(b, ordered, leastOrdered, "appends are slower than they have to be, beside transactions in order")
}

var payload = []byte(`"` + strings.Repeat("x", payloadSize-2) + `"`)

// baselinePool has as many connections as are best for the baselines: more of them only compete for the cores.
func baselinePool(b *testing.B, dsn string) *pgxpool.Pool {
	b.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(b, err)
	config.MaxConns, config.MinConns = 32, 32
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	_, err = pool.Exec(context.Background(), `
		create table plain (like events_1 including all);
		create sequence plain_position;
		create table plain_head (position bigint not null) with (fillfactor = 10);
		insert into plain_head values (0)`)
	require.NoError(b, err)
	return pool
}

const insertPlain = `insert into plain (position, stream_id, version, id, type, schema_version, actor_kind, recorded_at, commitment, data)
	values (%s, $1, 1, $2, 'test.happened', 1, 'system', now(), '', $3)`

func insertUnordered(pool *pgxpool.Pool) func(context.Context) error {
	query := fmt.Sprintf(insertPlain, "nextval('plain_position')")
	return func(ctx context.Context) error {
		_, err := pool.Exec(ctx, query, uuid.New(), uuid.New(), payload)
		return err
	}
}

// insertOrdered takes its position from the head row and holds the lock on it until the commit. The positions of both
// baselines stand in one table, so these are negative.
func insertOrdered(pool *pgxpool.Pool) func(context.Context) error {
	query := fmt.Sprintf(insertPlain, "-$4::bigint")
	return func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			var position int64
			err := tx.QueryRow(ctx, "update plain_head set position = position + 1 returning position").Scan(&position)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, query, uuid.New(), uuid.New(), payload, position)
			return err
		})
	}
}

// run appends from all writers for one round.
func (c *contender) run(b *testing.B) {
	b.Helper()
	var done atomic.Int64
	var mu sync.Mutex
	var times []time.Duration
	var wg sync.WaitGroup
	started := time.Now()
	for range c.writers {
		wg.Go(func() {
			var mine []time.Duration
			for begin := time.Now(); begin.Sub(started) < roundTime; {
				if err := c.append(context.Background()); err != nil {
					b.Errorf("%s: %v", c.name, err)
					return
				}
				end := time.Now()
				mine = append(mine, end.Sub(begin))
				begin = end
				done.Add(1)
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
		})
	}
	wg.Wait()
	c.rates = append(c.rates, float64(done.Load())/time.Since(started).Seconds())
	c.p50 = append(c.p50, median(times))
}

func median[T float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

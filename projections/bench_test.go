package projections_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// What the log of the benchmarks holds: runs of a few hundred at a time, each with two lines, beside what else happens.
const (
	benchExecutions = 50_000
	benchAtOnce     = 200
	benchOthers     = 2_000 // accounts, functions and keys
)

// BenchmarkRebuild tells how many events of the whole log a second each projection is rebuilt at, with its indexes and
// the swap.
func BenchmarkRebuild(b *testing.B) {
	f := newBenchLog(b)
	rebuilder := projectionstest.Rebuilder(f.store, f.codec, projections.All())
	for _, name := range rebuilder.Names() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, rebuilder.Rebuild(f.ctx, name, nil))
			}
			b.ReportMetric(float64(f.events*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkRebuildAgainstSQL compares a rebuild of the executions with their logs with the same in one statement a table,
// over the same rows with payloads of plain JSON, and the same indexes made afterwards: the ratio of their speeds, of
// rounds that take turns.
func BenchmarkRebuildAgainstSQL(b *testing.B) {
	f := newBenchLog(b)
	f.copyPlain(b)
	rebuilder := projectionstest.Rebuilder(f.store, f.codec, projections.All())
	var ours, sql time.Duration
	for b.Loop() {
		ours += timed(func() { require.NoError(b, rebuilder.Rebuild(f.ctx, "executions", nil)) })
		sql += timed(func() { f.pureSQL(b) })
	}
	f.requireSameRows(b)
	n := float64(f.events * b.N)
	b.ReportMetric(n/ours.Seconds(), "events/s")
	b.ReportMetric(n/sql.Seconds(), "sql-events/s")
	b.ReportMetric(sql.Seconds()/ours.Seconds(), "of-sql")
}

func timed(work func()) time.Duration {
	start := time.Now()
	work()
	return time.Since(start)
}

// benchLog is a long log.
type benchLog struct {
	fixture
	events int
}

func newBenchLog(b *testing.B) benchLog {
	b.Helper()
	l := benchLog{fixture: newFixture(b)}
	_, err := projectionstest.Rebuilder(l.store, l.codec, projections.All()).Setup(l.ctx)
	require.NoError(b, err)
	facts := benchFacts()
	l.events = len(facts)
	l.append(b, facts)
	l.exec(b, "vacuum analyze")
	return l
}

// exec runs statements one by one.
func (f fixture) exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := f.store.Pool().Exec(f.ctx, s)
		require.NoError(t, err, s)
	}
}

// fact is an event and the stream that it belongs to.
type fact struct {
	stream, account uuid.UUID
	domain.Event
}

// benchFacts tells the story of a log.
func benchFacts() (facts []fact) {
	add := func(stream, account uuid.UUID, e domain.Event) { facts = append(facts, fact{stream, account, e}) }
	var accounts, functions []uuid.UUID
	for i := range benchOthers {
		account, function, key := newID(), newID(), newID()
		accounts, functions = append(accounts, account), append(functions, function)
		add(account, account, domain.AccountRegistered{AccountID: account, Email: fmt.Sprintf("%d@example.com", i), Name: "Ada"})
		add(function, account, domain.FunctionCreated{
			FunctionID: function, AccountID: account, Name: "hello", Runtime: "nodejs", Code: strings.Repeat("x", 500), EntryPoint: "index.handler",
			MemoryMB: 128, TimeoutSec: 30,
		})
		add(key, account, domain.KeyCreated{KeyID: key, AccountID: account, Name: "ci", Prefix: "vr_123456789", Hash: make([]byte, 32)})
	}
	for first := 0; first < benchExecutions; first += benchAtOnce {
		ids := make([]uuid.UUID, benchAtOnce)
		for step := range 5 {
			for i := range ids {
				n := (first + i) % len(accounts)
				if step == 0 {
					ids[i] = newID()
				}
				add(ids[i], accounts[n], benchStep(step, ids[i], accounts[n], functions[n]))
			}
		}
	}
	return facts
}

// benchStep is what happens to an execution: requested, started, two lines, completed.
func benchStep(step int, id, account, function uuid.UUID) domain.Event {
	switch step {
	case 0:
		return domain.ExecutionRequested{
			ExecutionID: id, AccountID: account, FunctionID: function, FunctionVersion: 1, FunctionName: "hello", Runtime: "nodejs",
			Input: []byte(fmt.Sprintf(`{"name":"Ada","order":%d,"items":["apples","pears"]}`, rand.N(1_000_000))),
		}
	case 1:
		return domain.ExecutionStarted{WorkerID: account}
	case 2, 3:
		return domain.ExecutionLogLine{
			Stream: domain.Stdout, Text: "2026-11-23 10:00:00 INFO handled the order of Ada, two items, total 12.50", At: time.Now().UTC().Truncate(time.Microsecond),
		}
	}
	return domain.ExecutionCompleted{Output: []byte(`{"statusCode":200,"body":"{\"message\":\"Hello, Ada!\"}"}`), DurationMS: rand.Int64N(100), MemoryMB: 40}
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// append appends in batches, so that the log comes out as the store writes it.
func (f fixture) append(t testing.TB, facts []fact) {
	t.Helper()
	const batch = benchAtOnce // of which no two go to one stream, so that streams are interleaved as in life
	for len(facts) > 0 {
		n := min(batch, len(facts))
		streams := map[uuid.UUID]*eventstore.Write{}
		var order []uuid.UUID
		for _, fa := range facts[:n] {
			e, err := f.codec.Encode(f.ctx, newID(), fa.Event, eventstore.Metadata{AccountID: fa.account, Actor: system.Actor, CorrelationID: fa.stream})
			require.NoError(t, err)
			w := streams[fa.stream]
			if w == nil {
				w = &eventstore.Write{StreamID: fa.stream, Expected: eventstore.Any}
				streams[fa.stream] = w
				order = append(order, fa.stream)
			}
			w.Events = append(w.Events, e)
		}
		writes := make([]eventstore.Write, len(order))
		for i, id := range order {
			writes[i] = *streams[id]
		}
		_, err := f.store.Append(f.ctx, writes...)
		require.NoError(t, err)
		facts = facts[n:]
	}
}

// copyPlain copies what the rebuild reads, with payloads that SQL can read.
func (l benchLog) copyPlain(b *testing.B) {
	b.Helper()
	l.exec(b, "create table plain_events (position bigint, stream_id uuid, type text, recorded_at timestamptz, data json)")
	var rows [][]any
	for e, err := range l.store.ReadAll(l.ctx, 0) {
		require.NoError(b, err)
		disclosure, err := l.codec.Disclose(l.ctx, e.NewEvent)
		require.NoError(b, err)
		rows = append(rows, []any{e.Position, [16]byte(e.StreamID), e.Type, e.RecordedAt, eventstore.Content(disclosure)})
	}
	columns := []string{"position", "stream_id", "type", "recorded_at", "data"}
	_, err := l.store.Pool().CopyFrom(l.ctx, pgx.Identifier{"plain_events"}, columns, pgx.CopyFromRows(rows))
	require.NoError(b, err)
	l.exec(b, "alter table plain_events add primary key (position)", "vacuum analyze plain_events")
}

// pureSQL is the projection of the executions in SQL: the least that a database can do for the same tables.
func (l benchLog) pureSQL(b *testing.B) {
	b.Helper()
	conn, err := l.store.Pool().Acquire(l.ctx)
	require.NoError(b, err)
	defer conn.Release()
	for _, s := range []string{
		"drop schema if exists pure cascade; create schema pure; set search_path to pure, public; set synchronous_commit to off; set maintenance_work_mem to '256MB'",
		"create table pure.executions (like public.executions including storage) with (fillfactor = 80); create table pure.execution_logs (like public.execution_logs)",
		`insert into executions
			select stream_id,
				(min(data->>'account_id') filter (where type = 'execution.requested'))::uuid,
				min(position) filter (where type = 'execution.requested'),
				(min(data->>'function_id') filter (where type = 'execution.requested'))::uuid,
				(min(data->>'function_version') filter (where type = 'execution.requested'))::integer,
				min(data->>'function_name') filter (where type = 'execution.requested'),
				min(data->>'runtime') filter (where type = 'execution.requested'),
				case when bool_or(type = 'execution.completed') then 'success' when bool_or(type = 'execution.failed') then 'failed'
					when bool_or(type = 'execution.started') then 'running' else 'pending' end,
				(min(data->>'worker_id') filter (where type = 'execution.started'))::uuid,
				convert_to(min((data->'input')::text) filter (where type = 'execution.requested'), 'UTF8'),
				convert_to(min((data->'output')::text) filter (where type = 'execution.completed'), 'UTF8'),
				min(data->>'error') filter (where type = 'execution.failed'),
				min(data->>'error_type') filter (where type = 'execution.failed'),
				min(data->>'stack') filter (where type = 'execution.failed'),
				coalesce((min(data->>'duration_ms') filter (where type in ('execution.completed', 'execution.failed')))::bigint, 0),
				coalesce((min(data->>'memory_used') filter (where type in ('execution.completed', 'execution.failed')))::integer, 0), 0, false,
				min(recorded_at) filter (where type = 'execution.requested'),
				min(recorded_at) filter (where type = 'execution.started'),
				min(recorded_at) filter (where type in ('execution.completed', 'execution.failed')),
				false
			from plain_events where type in ('execution.requested', 'execution.started', 'execution.completed', 'execution.failed') group by stream_id`,
		`insert into execution_logs
			select stream_id, position, data->>'stream', data->>'text', (data->>'at')::timestamptz from plain_events where type = 'execution.log_line'`,
		"alter table executions add primary key (id); alter table execution_logs add primary key (execution_id, position)",
		projections.All()[2].Indexes,
		"analyze executions, execution_logs; set search_path to default; set synchronous_commit to default; reset maintenance_work_mem",
	} {
		_, err := conn.Exec(l.ctx, s)
		require.NoError(b, err, s)
	}
}

// requireSameRows wants the tables of both ways to be equal, or they would not be worth comparing.
func (l benchLog) requireSameRows(b *testing.B) {
	b.Helper()
	for _, table := range []string{"executions", "execution_logs"} {
		var differences int
		require.NoError(b, l.store.Pool().QueryRow(l.ctx, fmt.Sprintf(
			"select count(*) from ((table %[1]s except all table pure.%[1]s) union all (table pure.%[1]s except all table %[1]s)) d", table)).Scan(&differences))
		require.Zero(b, differences, table)
	}
}

package projections_test

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/projections"
)

// recorder is a Querier that keeps the last query, as it is sent.
type recorder struct {
	projections.Querier
	sql  string
	args []any
}

func (r *recorder) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r.sql, r.args = sql, args
	return r.Querier.Query(ctx, sql, args...)
}

// plan is how Postgres carried a query out.
type plan struct {
	Node    string  `json:"Node Type"`
	Index   string  `json:"Index Name"`
	Table   string  `json:"Relation Name"`
	Loops   float64 `json:"Actual Loops"`
	Rows    float64 `json:"Actual Rows"`
	Hit     float64 `json:"Shared Hit Blocks"`
	Read    float64 `json:"Shared Read Blocks"`
	Removed float64 `json:"Rows Removed by Filter"`
	Plans   []plan
}

// all lists the plan's nodes.
func (p plan) all() []plan {
	nodes := []plan{p}
	for _, child := range p.Plans {
		nodes = append(nodes, child.all()...)
	}
	return nodes
}

// loopsOn tells for each node that reads a table how often it did.
func (p plan) loopsOn(table string) (loops []int) {
	for _, node := range p.all() {
		if node.Table == table {
			loops = append(loops, int(node.Loops))
		}
	}
	return loops
}

func (p plan) indexes() (names []string) {
	for _, node := range p.all() {
		if node.Index != "" {
			names = append(names, node.Index)
		}
	}
	return names
}

// plan lets the queries send one query, and explains that with its arguments.
func (f fixture) plan(t *testing.T, query func(context.Context, *projections.Queries) error) plan {
	t.Helper()
	sent := &recorder{Querier: f.store.Pool()}
	require.NoError(t, query(f.ctx, projections.NewQueries(sent)))
	var text []byte
	err := f.store.Pool().QueryRow(f.ctx, "explain (analyze, timing off, format json) "+sent.sql, sent.args...).Scan(&text)
	require.NoError(t, err, sent.sql)
	var explained []struct{ Plan plan }
	require.NoError(t, json.Unmarshal(text, &explained))
	return explained[0].Plan
}

// crowd fills the read tables as if the log had been long: accounts of which twenty have a hundred functions, a
// hundred keys and two thousand executions of ten functions each. A fifth of them failed, few run.
const crowd = `
	create temporary table owners as select gen_random_uuid() as owner, n from generate_series(1, 20) n;
	insert into accounts select owner, n || '@example.com', 'A', now() from owners;
	insert into accounts select gen_random_uuid(), n || '@example.com', 'A', now() from generate_series(21, 5000) n;
	insert into functions select gen_random_uuid(), owner, row_number() over (order by m, owner), 1, 'f', '', 'nodejs', 'code', 'index.handler',
		128, 30, '', 0, 'active', now(), now() from owners, generate_series(1, 100) m;
	insert into keys select gen_random_uuid(), owner, row_number() over (), 'k', 'vr_' || lpad(to_hex(row_number() over ()), 9, '0'), '\x00',
		now() from owners, generate_series(1, 100);
	insert into executions (id, account_id, created_position, function_id, function_version, function_name, runtime, status, worker_id, input,
			duration_ms, memory_used, cpu_ms, cold_start, created_at)
		select gen_random_uuid(), f.account_id, row_number() over (order by n, f.id), f.id, 1, 'f', 'nodejs',
			case when n % 5 = 0 then 'failed' when n = 199 then 'running' else 'success' end, gen_random_uuid(), '{}', 1, 1, 0, false, now()
		from functions f, generate_series(1, 200) n where f.created_position <= 200;
	insert into execution_logs select id, created_position, 'stdout', 'hello', now() from executions;
	analyze`

// Each hot query reads only the rows that it answers with, in their order, whatever the tables' size.
func TestHotQueriesUseTheirIndexes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	_, err := f.store.Pool().Exec(f.ctx, crowd)
	require.NoError(t, err)
	var owner, function, execution uuid.UUID
	err = f.store.Pool().QueryRow(f.ctx, "select account_id, function_id, id from executions where created_position = 1").Scan(&owner, &function, &execution)
	require.NoError(t, err)
	list := func(filter projections.ExecutionFilter) func(context.Context, *projections.Queries) error {
		return func(ctx context.Context, q *projections.Queries) error {
			page, err := q.Executions.List(ctx, owner, filter, projections.PageRequest{Before: 39_000, Limit: 20})
			require.NotEmpty(t, page.Items)
			return err
		}
	}
	for name, c := range map[string]struct {
		query   func(context.Context, *projections.Queries) error
		indexes []string
	}{
		"an account": {func(ctx context.Context, q *projections.Queries) error {
			_, err := q.Accounts.Get(ctx, owner)
			return err
		}, []string{"accounts_pkey"}},
		"a function": {func(ctx context.Context, q *projections.Queries) error {
			_, err := q.Functions.Get(ctx, owner, function)
			return err
		}, []string{"functions_pkey"}},
		"functions": {func(ctx context.Context, q *projections.Queries) error {
			_, err := q.Functions.List(ctx, owner, projections.PageRequest{Limit: 3})
			return err
		}, []string{"functions_newest_first"}},
		"an execution": {func(ctx context.Context, q *projections.Queries) error {
			_, err := q.Executions.Get(ctx, owner, execution)
			return err
		}, []string{"executions_pkey", "execution_logs_pkey"}},
		"a log": {func(ctx context.Context, q *projections.Queries) error {
			_, err := q.Logs.Get(ctx, owner, execution)
			return err
		}, []string{"executions_pkey", "execution_logs_pkey"}},
		"executions": {list(projections.ExecutionFilter{}),
			[]string{"executions_newest_first", "execution_logs_pkey", "execution_logs_pkey"}},
		"executions of a function": {list(projections.ExecutionFilter{FunctionID: function}),
			[]string{"executions_of_function", "execution_logs_pkey", "execution_logs_pkey"}},
		"executions of a status": {list(projections.ExecutionFilter{Status: domain.ExecutionFailure}),
			[]string{"executions_by_status", "execution_logs_pkey", "execution_logs_pkey"}},
		"executions of a function and a status": {list(projections.ExecutionFilter{FunctionID: function, Status: domain.ExecutionFailure}),
			[]string{"executions_of_function_by_status", "execution_logs_pkey", "execution_logs_pkey"}},
		"executions held by workers": {func(ctx context.Context, q *projections.Queries) error {
			_, err := q.Executions.Running(ctx)
			return err
		}, []string{"executions_running"}},
		"a key": {func(ctx context.Context, q *projections.Queries) error {
			_, err := q.Keys.Find(ctx, "vr_000000001", []byte{0})
			return err
		}, []string{"keys_by_prefix"}},
		"keys": {func(ctx context.Context, q *projections.Queries) error {
			_, err := q.Keys.List(ctx, owner, projections.PageRequest{Limit: 10})
			return err
		}, []string{"keys_newest_first"}},
	} {
		plan := f.plan(t, c.query)
		require.ElementsMatch(t, c.indexes, plan.indexes(), name)
		for _, node := range plan.all() {
			require.NotEqual(t, "Seq Scan", node.Node, name)
			require.NotContains(t, node.Node, "Sort", name)
			require.Zero(t, node.Removed, "%s reads rows that it does not answer with", name)
		}
	}
}

// The log reads itself by its indexes too: no statement of a store has scanned the table of events when it is closed.
func TestTheLogIsReadByItsIndexes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(ctx, dsn)
	require.NoError(t, err)
	store, err := postgres.Open(ctx, dsn, uuid.New(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(store.Close)
	stream := uuid.New()
	_, err = store.Pool().Exec(ctx, `insert into events (position, stream_id, version, id, type, schema_version, actor_kind, recorded_at, commitment, data)
		select n, case when n < 10 then $1 else gen_random_uuid() end, n, gen_random_uuid(), 'key.deleted', 1, 'system', now(), '', '{}'
		from generate_series(1, 20000) n`, stream)
	require.NoError(t, err)
	_, err = store.Pool().Exec(ctx, "insert into streams values ($1, 9, 1)", stream)
	require.NoError(t, err)
	_, err = store.Pool().Exec(ctx, "analyze events")
	require.NoError(t, err)
	require.Equal(t, 4, count(t, store.ReadStream(ctx, stream, 5)))
	require.Equal(t, 1500, count(t, store.ReadAll(ctx, 18_500)))
	store.Close() // its sessions hand in what they counted

	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer conn.Close(ctx)
	var scanned, ofStreams, ofPositions int
	require.Eventually(t, func() bool {
		err := conn.QueryRow(ctx, `select sum(idx_scan) filter (where indexrelname = 'events_1_stream'),
			sum(idx_scan) filter (where indexrelname = 'events_1_pkey'), (select seq_tup_read from pg_stat_user_tables where relname = 'events_1')
			from pg_stat_user_indexes where relname = 'events_1'`).Scan(&ofStreams, &ofPositions, &scanned)
		return err == nil && ofStreams > 0 && ofPositions > 0
	}, 20*time.Second, 10*time.Millisecond)
	require.Zero(t, scanned, "events read by scans")
}

func count(t *testing.T, events iter.Seq2[eventstore.Event, error]) (n int) {
	t.Helper()
	for _, err := range events {
		require.NoError(t, err)
		n++
	}
	return n
}

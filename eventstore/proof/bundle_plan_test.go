package proof

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// A page of a bundle reads its own events and no others, wherever in a large log it begins, for small accounts and large ones,
// for short executions and long ones.
func TestAPageOfABundleIsARangeOfOneIndex(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(t.Context(), dsn)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	large, small, long := uuid.New(), uuid.New(), uuid.New()
	_, err = conn.Exec(t.Context(), `
		select fit_empty_log(10000); select add_events_partition(10000) from generate_series(2, 6)`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind,
			recorded_at, commitment, data)
		select n, case when n % 3 = 0 and n > 12000 then $3::uuid else gen_random_uuid() end,
			case when n % 3 = 0 and n > 12000 then (n - 12000) / 3 else 1 end, gen_random_uuid(), 'execution.log_line', 1,
			case when n % 1000 = 7 then $2::uuid when n % 3 = 0 then $1::uuid else gen_random_uuid() end, 'system', now(), '', sha256('x')
		from generate_series(1, 50000) n`, large, small, long)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "analyze")
	require.NoError(t, err)

	for name, c := range map[string]struct {
		excerpt Excerpt
		after   int64
		index   string // by which the first event of the page is found
		before  string // partitions in which nothing is looked for
	}{
		"the first page of a large account": {Excerpt{Account: large}, 0, "events_1_account", "-"},
		"a later one":                       {Excerpt{Account: large}, 34_000, "events_30001_account", "1|10001|20001"},
		"the last one":                      {Excerpt{Account: large}, 49_999, "events_40001_account", "1|10001|20001|30001"},
		"the first page of a small account": {Excerpt{Account: small}, 0, "events_1_account", "-"},
		"an account without events":         {Excerpt{Account: uuid.New()}, 0, "events_1_account", "-"},
		"the first page of an execution":    {Excerpt{Execution: long}, 0, "events_10001_stream", "1"},
		"a later one of an account's":       {Excerpt{Execution: long, Account: large}, 7_400, "events_30001_stream", "1"},
		"the first page of the whole log":   {Excerpt{}, 0, "events_1_pkey", "-"},
		"a later one of the whole log":      {Excerpt{}, 34_000, "events_30001_pkey", "1|10001|20001"},
	} {
		query, args, _ := c.excerpt.query(12_003, 50_000)
		rows, err := conn.Query(t.Context(), "explain (analyze, costs off, timing off) "+query, append([]any{c.after}, args...)...)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		plan := strings.Join(lines, "\n")
		require.Contains(t, plan, c.index, name)
		require.NotRegexp(t, `Seq Scan on events_.*rows=[1-9]|Removed by Filter: [1-9]\d`, plan, name)
		for _, read := range regexp.MustCompile(`actual rows=(\d+)`).FindAllStringSubmatch(plan, -1) {
			rows, err := strconv.Atoi(read[1])
			require.NoError(t, err)
			require.LessOrEqual(t, rows, bundlePage+1, "%s: %s", name, plan)
		}
		for _, line := range lines {
			if !strings.Contains(line, "never executed") {
				require.NotRegexp(t, ` on events_(`+c.before+`)\b`, line, name)
			}
		}
	}
}

package feed

import (
	"context"
	"strings"
	"testing"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Most events are log lines. A wake-up of the executor must not read through them, nor a page through the whole log, and
// neither looks into a partition from before the checkpoint.
func TestReadsBehindACheckpointUseAnIndex(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	_, err := conn.Exec(t.Context(), `
		select fit_empty_log(10000); select add_events_partition(10000) from generate_series(2, 6);
		insert into events (position, stream_id, version, id, type, schema_version, actor_kind, recorded_at, commitment, data)
		select n, gen_random_uuid(), 1, gen_random_uuid(),
			case when n % 50 = 0 then 'execution.requested' else 'execution.log_line' end, 1, 'system', now(), '', '{}'
		from generate_series(1, 50000) n;
		insert into checkpoints select 'test', topic, 35000 from unnest('{execution.requested,$all}'::text[]) topic;
		analyze`)
	require.NoError(t, err)

	wanted := []string{"execution.requested"}
	for name, c := range map[string]struct {
		query wsql.Query
		index string
	}{
		"a wake-up":         {(&events{limit: 8}).query("execution.requested", "test"), "requested"},
		"the end of a page": {pages{types: wanted}.query(All, "test"), "pkey"},
		"a page":            {wsql.Query{Query: pageEventsQuery, Args: []any{35001, 36000, []string{"execution.log_line"}}}, "pkey"},
		"a page's size":     {wsql.Query{Query: pageCountQuery, Args: []any{35001, 36000}}, "pkey"},
	} {
		plan := explainPlan(t, conn, c.query)
		require.Contains(t, plan, "events_30001_"+c.index, name)
		require.NotContains(t, plan, "Sort ", name)
		for line := range strings.Lines(plan) {
			if strings.Contains(line, "never executed") {
				continue
			}
			require.NotRegexp(t, `Seq Scan on events_\d`, line, name)
			require.NotRegexp(t, `events_(1|10001|20001)\b`, line, name)
		}
	}
}

func explainPlan(t *testing.T, conn *pgx.Conn, query wsql.Query) string {
	t.Helper()
	rows, err := conn.Query(context.Background(), "explain (analyze, costs off) "+query.Query, query.Args...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

func TestWhatAConsumerDoesNotWantIsNotSent(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	appendEvents(t, conn, "wanted", "others", "wanted")
	rows, err := conn.Query(t.Context(), pageEventsQuery, 1, 3, []string{"wanted"})
	require.NoError(t, err)
	events, err := pgx.CollectRows(rows, postgres.ScanEvent)
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Equal(t, []eventstore.Position{1, 3}, []eventstore.Position{events[0].Position, events[1].Position})
}

func TestAnEventThatIsMissingIsAnErrorWhateverItsType(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	appendEvents(t, conn, "wanted", "others", "wanted", "others")
	_, err := conn.Exec(t.Context(), "set session_replication_role = replica; delete from events where type = 'others'")
	require.NoError(t, err)
	for missing, page := range map[string]Page{"event 2 is missing": {From: 1, To: 3}, "event 4 is missing": {From: 3, To: 4}} {
		var last error
		for _, err := range page.Events(t.Context(), conn) {
			last = err
		}
		require.ErrorContains(t, last, missing)
	}
}

// migrated is a connection to a database of its own with an empty log.
func migrated(t *testing.T) *pgx.Conn {
	t.Helper()
	ctx := context.Background()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(ctx, dsn)
	require.NoError(t, err)
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(ctx) })
	return conn
}

// appendEvents writes one event of each of these types.
func appendEvents(t *testing.T, conn *pgx.Conn, types ...string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), `
		insert into events (position, stream_id, version, id, type, schema_version, actor_kind, recorded_at, commitment, data)
		select n, gen_random_uuid(), 1, gen_random_uuid(), type, 1, 'system', now(), '', '{}' from unnest($1::text[]) with ordinality t (type, n)`, types)
	require.NoError(t, err)
}

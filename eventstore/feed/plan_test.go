package feed

import (
	"context"
	"strings"
	"testing"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// Most events are log lines. A wake-up of the executor must not read through them, nor a page through the whole log.
func TestReadsBehindACheckpointUseAnIndex(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn := pgtest.Database(t)
	_, err := postgres.Migrate(ctx, dsn)
	require.NoError(t, err)
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(ctx) })
	_, err = conn.Exec(ctx, `
		insert into events (position, stream_id, version, id, type, schema_version, actor_kind, recorded_at, data)
		select n, gen_random_uuid(), 1, gen_random_uuid(),
			case when n % 50 = 0 then 'execution.requested' else 'execution.log_line' end, 1, 'system', now(), '{}'
		from generate_series(1, 50000) n;
		insert into checkpoints select 'test', topic, 45000 from unnest('{execution.requested,$all}'::text[]) topic;
		analyze`)
	require.NoError(t, err)

	requested := explainPlan(t, conn, (&events{limit: 8}).query("execution.requested", "test"))
	require.Contains(t, requested, "Index Scan using events_requested")
	page := explainPlan(t, conn, pages{}.query(All, "test"))
	require.Contains(t, page, "Index Scan using events_pkey")
	for _, plan := range []string{requested, page} {
		require.NotContains(t, plan, "Seq Scan on events")
		require.NotContains(t, plan, "Sort ")
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

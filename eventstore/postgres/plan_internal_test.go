package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/pgtest"
)

// The writer has one plan for all batches, made when the log is new and small. It must fit a log that is neither, and a
// batch of thousands.
func TestABatchIsPlannedForALogOfAnySize(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	_, err := Migrate(t.Context(), dsn)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { closeNow(conn) })
	_, err = conn.Exec(t.Context(), "set plan_cache_mode = force_generic_plan; prepare batch as "+appendSQL)
	require.NoError(t, err)
	noArrays := strings.Repeat("'{}', ", len(newColumns(0, 0, 0).args()))
	rows, err := conn.Query(t.Context(), "explain execute batch("+noArrays+"'channel')")
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	plan := strings.Join(lines, "\n")
	require.Contains(t, plan, "Index Scan using streams_pkey")
	require.NotContains(t, plan, "Seq Scan on streams")
	require.NotRegexp(t, "Join Filter: .* = ", plan, "each event must not be compared with each write")
}

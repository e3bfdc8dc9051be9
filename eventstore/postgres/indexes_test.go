package postgres

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
)

const (
	crowdPartition  = 20_000
	crowdPartitions = 5
)

// crowded is a log over several partitions: a hundred accounts in turns, executions of ten events each, of which seven are
// lines. Every hundredth execution is a function's creation instead.
func crowded(t *testing.T) *Store {
	t.Helper()
	s := openSmall(t, pgtest.Database(t), crowdPartition)
	_, err := s.pool.Exec(t.Context(), `
		select add_events_partition($1) from generate_series(2, $2::int + 2)`, crowdPartition, crowdPartitions)
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), `
		insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, recorded_at, commitment, data)
		select p + 1, md5('stream ' || p / 10)::uuid, p % 10 + 1, gen_random_uuid(),
			case when p / 10 % 100 = 0 and p % 10 = 0 then 'function.created' when p % 10 = 0 then 'execution.requested'
				when p % 10 = 1 then 'execution.started' when p % 10 = 9 then 'execution.completed' else 'execution.log_line' end,
			1, md5('account ' || p / 10 % 100)::uuid, 'user', timestamptz '2026-01-01' + p * interval '1 second', '', '\x00'
		from generate_series(0, $1::bigint - 1) p`, crowdPartition*crowdPartitions)
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), `insert into streams select stream_id, max(version), min(position) from events group by stream_id;
		update head set position = (select max(position) from events), recorded_at = '2027-01-01'; analyze events, streams`)
	require.NoError(t, err)
	return s
}

// node is a step of a plan.
type node struct {
	Node    string  `json:"Node Type"`
	Index   string  `json:"Index Name"`
	Table   string  `json:"Relation Name"`
	Loops   float64 `json:"Actual Loops"`
	Rows    float64 `json:"Actual Rows"`
	Removed float64 `json:"Rows Removed by Filter"`
	Plans   []node
}

// steps are the nodes of a plan that were carried out.
func (n node) steps() (all []node) {
	if n.Loops > 0 {
		all = append(all, n)
	}
	for _, child := range n.Plans {
		all = append(all, child.steps()...)
	}
	return all
}

// touched is how many rows of the log a plan has looked at.
func (n node) touched() (rows float64) {
	for _, step := range n.steps() {
		if strings.HasPrefix(step.Table, "events_") {
			rows += step.Loops * (step.Rows + step.Removed)
		}
	}
	return rows
}

func explained(t *testing.T, tx pgx.Tx, query string, args ...any) node {
	t.Helper()
	var text []byte
	require.NoError(t, tx.QueryRow(t.Context(), "explain (analyze, timing off, format json) "+query, args...).Scan(&text))
	var plans []struct{ Plan node }
	require.NoError(t, json.Unmarshal(text, &plans))
	return plans[0].Plan
}

// hotQuery is a query that runs all the time.
type hotQuery struct {
	sql  string
	args []any
	from int // the first partition that it may look into, from 1
}

// far is a position in the fourth partition.
const far = 3*crowdPartition + 51

// hotQueries are those of the log, by the index that they need. An index that no query needs makes every append slower for
// nothing.
func hotQueries(t *testing.T, s *Store) map[string]hotQuery {
	t.Helper()
	var stream, account uuid.UUID
	require.NoError(t, s.pool.QueryRow(t.Context(), "select stream_id, account_id from events where position = $1", far).Scan(&stream, &account))
	return map[string]hotQuery{
		// A page of everything: projections, rebuilds, proofs, exports.
		"pkey": {sql: allQuery, args: []any{100, inlineBytes, far}, from: 4},
		// Every command.
		"stream": {sql: streamQuery, args: []any{readPage, inlineBytes, stream, 0}, from: 4},
		// A page of an account's history. (The queries of projections and of the feed are tested there, word by word.)
		"account": {sql: "select * from events where account_id = any(array[$1]::uuid[]) and position > $2 order by account_id, position limit 50",
			args: []any{account, far}, from: 4},
		// What an account has made, by its type.
		"milestones": {sql: `select position, stream_id from events where account_id = any(array[$1]::uuid[]) and type = 'function.created'
			and type <> all ('{execution.started,execution.log_line,execution.completed,execution.failed,key.used}'::text[])
			order by account_id desc, position desc limit 20`, args: []any{account}, from: 1},
		// An executor that wakes up.
		"requested": {sql: "select * from events where type = 'execution.requested' and position > $1 order by position limit 100",
			args: []any{far}, from: 4},
	}
}

var ofPartition = regexp.MustCompile(`^events_(\d+)(?:_(\w+))?$`)

// Each index of the log is there for a query, and each query looks at little more than what it answers with (and so sorts
// no more), in no partition from before. Without its index it would look at ten times as much.
func TestTheLogHasTheIndexesThatItsQueriesNeedAndNoOther(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	queries := hotQueries(t, s)
	for partition := range crowdPartitions {
		table := Partition{From: eventstore.Position(partition*crowdPartition + 1)}.table()
		require.ElementsMatch(t, slices.Collect(maps.Keys(queries)), s.indexesOf(t, table), table)
	}
	for index, q := range queries {
		t.Run(index, func(t *testing.T) {
			tx, err := s.pool.Begin(t.Context())
			require.NoError(t, err)
			defer tx.Rollback(t.Context())
			plan := explained(t, tx, q.sql, q.args...)
			for _, step := range plan.steps() {
				if !strings.HasPrefix(step.Table, "events_") || step.Rows+step.Removed == 0 || step.Node == "Bitmap Heap Scan" {
					continue // not of the log, or of an empty partition, or the index is in the step before
				}
				match := ofPartition.FindStringSubmatch(step.Index)
				require.Equal(t, index, match[2], step.Index)
				from, err := strconv.Atoi(match[1])
				require.NoError(t, err)
				require.GreaterOrEqual(t, from, (q.from-1)*crowdPartition+1, "%s looks into a partition from before", index)
			}
			require.LessOrEqual(t, plan.touched(), 110.0)
			if index == "pkey" {
				return // it belongs to the log itself and cannot be taken away from a partition
			}
			for partition := range crowdPartitions {
				_, err := tx.Exec(t.Context(), fmt.Sprintf("drop index events_%d_%s", partition*crowdPartition+1, index))
				require.NoError(t, err)
			}
			require.Greater(t, explained(t, tx, q.sql, q.args...).touched(), 10*max(plan.touched(), 10), "it is not needed")
		})
	}
}

// indexesOf are the indexes of a partition, without the name of its table.
func (s *Store) indexesOf(t *testing.T, table string) (names []string) {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), "select indexname from pg_indexes where tablename = $1", table)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, name := range all {
		names = append(names, strings.TrimPrefix(name, table+"_"))
	}
	return names
}

// Postgres takes a stream that it has not met yet for one of the usual length. A long one must not be read as a whole and
// sorted for each of its pages.
func TestALongStreamIsReadAPageAtATime(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	long := uuid.New()
	_, err := s.Append(t.Context(), write(long, 5000))
	require.NoError(t, err)
	tx, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context())
	require.LessOrEqual(t, explained(t, tx, streamQuery, 100, inlineBytes, long, 2500).touched(), 110.0)
}

// What waits is found by looking at little more than the requests of the range, or of the account, however long the log is.
func TestWhatWaitsIsFoundByItsIndexes(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	_, err := s.pool.Exec(t.Context(), "update streams set version = 1 where first_position > $1 and first_position % 100 = 1", far)
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "analyze streams")
	require.NoError(t, err)
	var account uuid.UUID
	require.NoError(t, s.pool.QueryRow(t.Context(), `select account_id from events where type = 'execution.requested' and position % 100 = 1 and position > $1
		order by position limit 1`, far).Scan(&account))
	tx, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context())
	for name, q := range map[string]hotQuery{
		"in a range":    {sql: unclaimedBetween, args: []any{1000, far, far + 5000}},
		"of an account": {sql: unclaimedOf, args: []any{100, account, far}},
	} {
		plan := explained(t, tx, q.sql, q.args...)
		for _, step := range plan.steps() {
			require.False(t, step.Node == "Seq Scan" && step.Rows+step.Removed > 0, "%s: of %s", name, step.Table)
			require.LessOrEqual(t, step.Loops*(step.Rows+step.Removed), 1000.0, "%s: %s of %s", name, step.Node, step.Table)
		}
		require.Positive(t, plan.Rows, name)
	}
}

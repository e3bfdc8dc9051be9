package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// sentQuery is a query as it was sent, with the settings that were sent before it in the same round trip.
type sentQuery struct {
	settings string
	sql      string
	args     []any
}

// wire is a database that keeps the queries that it is sent, those for one row of no table apart.
type wire struct {
	projections.Database
	sent, asked []sentQuery
}

func (w *wire) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	w.asked = append(w.asked, sentQuery{"", sql, args})
	return w.Database.QueryRow(ctx, sql, args...)
}

func (w *wire) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	w.sent = append(w.sent, sentQuery{"", sql, args})
	return w.Database.Query(ctx, sql, args...)
}

func (w *wire) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	settings := ""
	for _, q := range batch.QueuedQueries {
		if strings.Contains(q.SQL, "set_config") {
			settings = q.SQL
			continue
		}
		w.sent = append(w.sent, sentQuery{settings, q.SQL, q.Arguments})
	}
	return w.Database.SendBatch(ctx, batch)
}

// explain tells how Postgres carries a query out. Under settings it is the one plan for all arguments that counts, and
// that is seen only of a prepared statement.
func (f fixture) explain(t *testing.T, q sentQuery) plan {
	t.Helper()
	tx, err := f.store.Pool().Begin(f.ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(f.ctx) }()
	sql, args := q.sql, q.args
	if q.settings != "" {
		_, err := tx.Exec(f.ctx, q.settings)
		require.NoError(t, err)
		_, err = tx.Exec(f.ctx, "prepare asked as "+q.sql)
		require.NoError(t, err)
		defer func() { _, _ = tx.Exec(f.ctx, "deallocate asked") }()
		sql, args = "execute asked ("+literals(q.args)+")", nil
	}
	var text []byte
	require.NoError(t, tx.QueryRow(f.ctx, "explain (analyze, buffers, timing off, format json) "+sql, args...).Scan(&text), sql)
	var explained []struct{ Plan plan }
	require.NoError(t, json.Unmarshal(text, &explained))
	return explained[0].Plan
}

// literals writes arguments into a statement.
func literals(args []any) string {
	list := make([]string, len(args))
	for i, arg := range args {
		text := fmt.Sprint(arg)
		if at, isTime := arg.(time.Time); isTime {
			text = at.Format(time.RFC3339Nano)
		}
		if reflect.TypeOf(arg).Kind() == reflect.Slice {
			text = "{" + strings.Join(strings.Fields(strings.Trim(text, "[]")), ",") + "}"
		}
		list[i] = "'" + text + "'"
	}
	return strings.Join(list, ", ")
}

// touched is how many rows of tables a plan looks at.
func (p plan) touched() (rows float64) {
	for _, node := range p.all() {
		if node.Table != "" {
			rows += node.Loops * (node.Rows + node.Removed)
		}
	}
	return rows
}

var partitionOf = regexp.MustCompile(`^events_\d+_`)

// eventIndexes are the indexes of the log that a plan uses, whatever the partition.
func (p plan) eventIndexes() (names []string) {
	for _, index := range p.indexes() {
		if partitionOf.MatchString(index) {
			names = append(names, partitionOf.ReplaceAllString(index, ""))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// crowdedLog is a log over two partitions in which an owner has half of 100,000 events, and one function.
func crowdedLog(t *testing.T) (f fixture, owner, function uuid.UUID) {
	f = newFixture(t)
	owner = uuid.New()
	function = f.function(t, owner, "hello")
	_, err := f.store.Pool().Exec(f.ctx, "update head set position = 950000")
	require.NoError(t, err)
	projectionstest.Fill(t, f.store.Pool(), projectionstest.Filling{Account: owner, Share: 2, Function: function, Events: 100_000, Line: 100})
	return f, owner, function
}

// Each read of history looks at little more than what it answers with, by the index that is meant for it, wherever in the
// history it begins.
func TestHistoryIsReadByItsIndexes(t *testing.T) {
	t.Parallel()
	f, owner, function := crowdedLog(t)
	const from = 990_000
	audit := func(a projections.Audit) func(*projections.History) error {
		a.Limit = 50
		return func(h *projections.History) error {
			page, err := h.Audit(f.ctx, owner, a)
			require.True(t, len(page.Items) > 0 || page.Next > 0)
			return err
		}
	}
	asOf := func(read func(*projections.Queries) error) func(*projections.History) error {
		return func(h *projections.History) error {
			queries, _, err := h.AsOf(f.ctx, owner, projections.Moment{Position: 1_000_500})
			require.NoError(t, err)
			return read(queries)
		}
	}
	var execution uuid.UUID
	require.NoError(t, f.store.Pool().QueryRow(f.ctx,
		"select stream_id from events where account_id = $1 and position > 1000000 limit 1", owner).Scan(&execution))
	for name, c := range map[string]struct {
		read    func(*projections.History) error
		indexes []string
		most    float64 // rows that may be looked at
	}{
		"an account's events":           {audit(projections.Audit{}), []string{"account"}, 53},
		"its next page":                 {audit(projections.Audit{After: from}), []string{"account"}, 53},
		"its oldest":                    {audit(projections.Audit{OldestFirst: true}), []string{"account"}, 53},
		"its oldest, next page":         {audit(projections.Audit{OldestFirst: true, After: from}), []string{"account"}, 53},
		"the end of a range, backwards": {audit(projections.Audit{From: 1_049_970}), []string{"account"}, 53},
		"the end of a range":            {audit(projections.Audit{To: 950_030, OldestFirst: true}), []string{"account"}, 53},
		"a time":                        {audit(projections.Audit{Since: time.Unix(0, 0)}), []string{"account"}, 53},
		"what executions do in masses":  {audit(projections.Audit{Types: []string{"execution.completed"}}), []string{"account"}, 520},
		"an actor":                      {audit(projections.Audit{ActorKind: domain.ActorUser, After: from}), []string{"account"}, 520},
		"a rare actor":                  {audit(projections.Audit{ActorKind: domain.ActorSystem}), []string{"account"}, 5003},
		"a type":                        {audit(projections.Audit{Types: []string{"execution.requested"}}), []string{"milestones"}, 53},
		"a rare type":                   {audit(projections.Audit{Types: []string{"function.created"}}), []string{"milestones"}, 3},
		"types":                         {audit(projections.Audit{Types: []string{"execution.requested", "function.created"}, After: from}), []string{"milestones"}, 56},
		"a function":                    {audit(projections.Audit{Subject: function}), []string{"stream"}, 3},
		"an execution, oldest first":    {audit(projections.Audit{Subject: execution, OldestFirst: true}), []string{"stream"}, 12},
		"functions as of a position": {asOf(func(q *projections.Queries) error {
			_, err := q.Functions.List(f.ctx, owner, projections.PageRequest{Limit: 9})
			return err
		}), []string{"milestones", "stream"}, 5},
		"executions as of a position": {asOf(func(q *projections.Queries) error {
			_, err := q.Executions.List(f.ctx, owner, projections.ExecutionFilter{}, projections.PageRequest{Limit: 2})
			return err
		}), []string{"milestones", "stream"}, 40},
		"an execution as of a position": {asOf(func(q *projections.Queries) error { _, err := q.Logs.Get(f.ctx, owner, execution); return err }), []string{"stream"}, 12},
	} {
		sent := &wire{Database: f.store.Pool()}
		require.NoError(t, c.read(projections.NewHistory(sent, storetest.Codec(f.store), nil)), name)
		var indexes []string
		var touched, blocks float64
		for _, query := range sent.sent {
			plan := f.explain(t, query)
			indexes = append(indexes, plan.eventIndexes()...)
			touched += plan.touched()
			blocks += plan.Hit + plan.Read
			for _, node := range plan.all() {
				require.NotEqual(t, "Seq Scan", node.Node, name)
				if strings.Contains(node.Node, "Sort") {
					require.LessOrEqual(t, node.Rows, float64(102), "%s sorts more than two pages", name)
				}
			}
		}
		slices.Sort(indexes)
		require.Equal(t, c.indexes, slices.Compact(indexes), name)
		require.LessOrEqual(t, touched, c.most, name)
		require.LessOrEqual(t, blocks, c.most/2+60, "%s looks through an index", name)
	}
}

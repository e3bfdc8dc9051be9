package projections_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// importedLog is a log in which an owner has half of 100,000 events, and was imported: all that is the owner's happened a day before it was recorded.
func importedLog(t *testing.T) (f fixture, owner uuid.UUID, middle time.Time) {
	t.Helper()
	f, owner = newFixture(t), uuid.New()
	projectionstest.Fill(t, f.store.Pool(), projectionstest.Filling{
		Account: owner, Share: 2, Function: f.function(t, owner, "hello"), Events: 100_000, Line: 100,
	})
	err := pgx.BeginFunc(f.ctx, f.store.Pool(), func(tx pgx.Tx) error {
		_, err := tx.Exec(f.ctx, "set local session_replication_role = replica") // past the trigger that refuses it
		require.NoError(t, err)
		_, err = tx.Exec(f.ctx, `update events set headers = convert_to(json_build_object('voltrun.recorded_at',
			to_char((recorded_at - interval '1 day') at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text, 'UTF8') where account_id = $1`, owner)
		return err
	})
	require.NoError(t, err)
	_, err = f.store.Pool().Exec(f.ctx, "vacuum analyze events")
	require.NoError(t, err)
	fact, err := f.codec.Encode(f.ctx, uuid.New(), domain.AccountImported{Source: "voltrun/source"}, eventstore.Metadata{
		AccountID: owner, Actor: domain.Actor{Kind: domain.ActorSystem},
	})
	require.NoError(t, err)
	_, err = f.store.Append(f.ctx, eventstore.Write{StreamID: owner, Expected: eventstore.New, Events: []eventstore.NewEvent{fact}})
	require.NoError(t, err)
	require.NoError(t, f.store.Pool().QueryRow(f.ctx,
		"select happened_at(headers, recorded_at) from events where account_id = $1 and position > 50000 order by position limit 1", owner).Scan(&middle))
	return f, owner, middle
}

// Where no position stands for a time, the events are found by halves, or looked at up to the bound of a page.
func TestTheTimesOfAnImportedAccountAreFoundByIndexes(t *testing.T) {
	t.Parallel()
	f, owner, middle := importedLog(t)
	for name, c := range map[string]struct {
		read func(*projections.History) (int, error)
		most float64 // blocks that may be read
	}{
		"executions as of a time": {func(h *projections.History) (int, error) {
			queries, moment, err := h.AsOf(f.ctx, owner, projections.Moment{Time: middle})
			require.NoError(t, err)
			require.Equal(t, projections.Moment{Position: f.head(t), Time: middle}, moment)
			page, err := queries.Executions.List(f.ctx, owner, projections.ExecutionFilter{}, projections.PageRequest{Limit: 2})
			for _, x := range page.Items {
				require.False(t, x.CreatedAt.After(middle))
				require.WithinDuration(t, middle, x.CreatedAt, time.Millisecond)
			}
			return len(page.Items), err
		}, 600},
		"functions as of a time": {func(h *projections.History) (int, error) {
			queries, _, err := h.AsOf(f.ctx, owner, projections.Moment{Time: middle})
			require.NoError(t, err)
			page, err := queries.Functions.List(f.ctx, owner, projections.PageRequest{Limit: 2})
			return len(page.Items), err
		}, 400},
		"events since a time": {func(h *projections.History) (int, error) {
			page, err := h.Audit(f.ctx, owner, projections.Audit{Since: middle, Limit: 50})
			return len(page.Items), err
		}, 200},
		"events until a time": {func(h *projections.History) (int, error) {
			page, err := h.Audit(f.ctx, owner, projections.Audit{Until: middle, OldestFirst: true, Limit: 50})
			return len(page.Items), err
		}, 200},
		"events until a time, looked for from the other end": {func(h *projections.History) (int, error) {
			page, err := h.Audit(f.ctx, owner, projections.Audit{Until: middle.Add(-time.Hour), Limit: 50})
			require.NotZero(t, page.Next)
			return 1, err
		}, 3000},
	} {
		sent := &wire{Database: f.store.Pool()}
		found, err := c.read(projections.NewHistory(sent, storetest.Codec(f.store), nil))
		require.NoError(t, err, name)
		require.NotZero(t, found, name)
		var blocks float64
		for _, query := range append(sent.sent, sent.asked...) {
			plan := f.explain(t, query)
			blocks += plan.Hit + plan.Read
			for _, node := range plan.all() {
				require.NotEqual(t, "Seq Scan", node.Node, name)
			}
		}
		require.LessOrEqual(t, blocks, c.most, name)
	}
}

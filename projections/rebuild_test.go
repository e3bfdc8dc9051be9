package projections_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// standing is what the tables that serve are: which tables, what is in them, and how they are indexed.
type standing struct {
	OIDs    map[string]uint32
	Rows    map[string]string
	Indexes []string
}

// standing looks at every table that serves. The rows are hashed in the order of all their columns, not by our own digest.
func (f fixture) standing(t testing.TB) standing {
	t.Helper()
	s := standing{OIDs: map[string]uint32{}, Rows: map[string]string{}}
	for _, p := range projections.All() {
		for _, table := range p.Tables {
			var oid uint32
			var rows string
			err := f.store.Pool().QueryRow(f.ctx, fmt.Sprintf(`select 'public.%[1]s'::regclass::oid,
				(select count(*) || ' rows ' || coalesce(md5(string_agg(x::text, '|' order by x::text)), '') from public.%[1]s x)`, table.Name)).Scan(&oid, &rows)
			require.NoError(t, err)
			s.OIDs[table.Name], s.Rows[table.Name] = oid, rows
		}
	}
	err := f.store.Pool().QueryRow(f.ctx, `select array_agg(name order by name) from (
		select indexdef as name from pg_indexes where schemaname = 'public'
			and tablename in ('accounts', 'functions', 'executions', 'execution_logs', 'keys', 'erased_accounts')
		union all select stxname || ' on ' || stxrelid::regclass from pg_statistic_ext where stxnamespace = 'public'::regnamespace) x`).Scan(&s.Indexes)
	require.NoError(t, err)
	return s
}

// requireNoLeftovers wants no schema but those that every database has.
func (f fixture) requireNoLeftovers(t testing.TB) {
	t.Helper()
	var schemas []string
	err := f.store.Pool().QueryRow(f.ctx, `select coalesce(array_agg(nspname), '{}') from pg_namespace
		where nspname !~ '^pg_' and nspname not in ('public', 'information_schema')`).Scan(&schemas)
	require.NoError(t, err)
	require.Empty(t, schemas)
}

// aLittleOfEverything lets an account do all that an account can, some of it undone again.
func (f fixture) aLittleOfEverything(t testing.TB) (owner, function uuid.UUID) {
	t.Helper()
	email := newID().String() + "@example.com"
	login, err := f.RegisterAccount.Handle(f.ctx, system, domain.RegisterAccount{Email: email, Password: "secret", Name: "A"})
	require.NoError(t, err)
	owner = login.Account.ID
	function, gone := f.function(t, owner, "hello"), f.function(t, owner, "gone")
	name := "renamed"
	_, err = f.UpdateFunction.Handle(f.ctx, system, domain.UpdateFunction{
		FunctionID: function, AccountID: owner, Changes: domain.FunctionChanges{Name: &name},
	})
	require.NoError(t, err)
	_, err = f.DeleteFunction.Handle(f.ctx, system, domain.DeleteFunction{FunctionID: gone, AccountID: owner})
	require.NoError(t, err)
	for i := range 20 {
		f.run(t, owner, function, fmt.Sprint(i), done(fmt.Sprint(i)), "line", "line")
	}
	f.run(t, owner, function, "1", domain.ExecutionFailed{Error: "x", ErrorType: "Y"})
	f.run(t, owner, function, "1", nil, "still running")
	kept, err := f.CreateKey.Handle(f.ctx, system, owner, "kept", nil)
	require.NoError(t, err)
	deleted, err := f.CreateKey.Handle(f.ctx, system, owner, "deleted", nil)
	require.NoError(t, err)
	_, err = f.DeleteKey.Handle(f.ctx, system, domain.DeleteKey{KeyID: deleted.ID, AccountID: owner})
	require.NoError(t, err)
	require.NotEqual(t, kept.ID, deleted.ID)
	f.erase(t, f.account(t, newID().String()+"@example.com"))
	f.caughtUp(t)
	return owner, function
}

func TestARebuildGivesTheTablesThatFollowedAndTwiceTheSame(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	f.aLittleOfEverything(t)
	before := f.standing(t)
	for range 2 {
		oids := f.standing(t).OIDs
		for _, name := range f.rebuilder.Names() {
			require.NoError(t, f.rebuilder.Rebuild(f.ctx, name, nil), name)
		}
		now := f.standing(t)
		require.Equal(t, before.Rows, now.Rows)
		require.Equal(t, before.Indexes, now.Indexes, "with the same indexes and statistics")
		for table, oid := range oids {
			require.NotEqual(t, oid, now.OIDs[table], "%s is another table", table)
		}
	}
	f.requireNoLeftovers(t)
	f.aLittleOfEverything(t) // what follows goes into the new tables
	projectionstest.RequireEqualToRebuilt(t, f.store, f.codec)
}

func TestVerifyFindsARowThatTheLogDoesNotKnow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	f.aLittleOfEverything(t)
	for _, tampering := range []string{
		"update executions set duration_ms = duration_ms + 1 where id = (select min(id::text)::uuid from executions)",
		"delete from execution_logs where position = (select max(position) from execution_logs)",
		"insert into execution_logs select execution_id, -position, stream, text, written_at from execution_logs limit 1",
	} {
		f.exec(t, tampering)
		before := f.standing(t)
		v, err := f.rebuilder.Verify(f.ctx, "executions", nil)
		require.NoError(t, err)
		require.False(t, v.Equal(), tampering)
		require.Equal(t, before, f.standing(t), "verifying mends nothing")
		require.NoError(t, f.rebuilder.Rebuild(f.ctx, "executions", nil))
		v, err = f.rebuilder.Verify(f.ctx, "executions", nil)
		require.NoError(t, err)
		require.True(t, v.Equal())
	}
	f.requireNoLeftovers(t)
}

// moments are where a rebuild can be interrupted.
var moments = []projections.RebuildState{projections.RebuildReading, projections.RebuildIndexing, projections.RebuildSwapping}

func TestACancelledRebuildLeavesEverythingAsItWas(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	f.aLittleOfEverything(t)
	before := f.standing(t)
	for _, moment := range moments {
		for _, name := range f.rebuilder.Names() {
			ctx, cancel := context.WithCancel(f.ctx)
			var last projections.Progress
			err := f.rebuilder.Rebuild(ctx, name, func(p projections.Progress) {
				if last = p; p.State == moment {
					cancel()
				}
			})
			require.ErrorIs(t, err, context.Canceled, "%s while %s", name, moment)
			require.Equal(t, projections.RebuildCancelled, last.State)
			require.Equal(t, before, f.standing(t), "%s while %s", name, moment)
			f.requireNoLeftovers(t)
		}
	}
	f.aLittleOfEverything(t)
	projectionstest.RequireEqualToRebuilt(t, f.store, f.codec)
}

// Whoever reads a table for long holds a swap up, not the readers and writers behind it.
func TestASwapThatHasToWaitLetsOthersPassAndIsCancelledWithoutATrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	owner, function := f.aLittleOfEverything(t)
	before := f.standing(t)
	reader, err := f.store.Pool().Begin(f.ctx)
	require.NoError(t, err)
	_, err = reader.Exec(f.ctx, "select from executions limit 1")
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(f.ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.rebuilder.Rebuild(ctx, "executions", nil) }()
	for range 3 { // while the swap tries again and again
		f.awaitLock(t, "voltrun rebuild executions")
		id := f.run(t, owner, function, "1", done("2"))
		f.caughtUp(t)
		x, err := f.Executions.Get(f.ctx, owner, id)
		require.NoError(t, err)
		require.Equal(t, domain.ExecutionSuccess, x.Status)
	}
	f.awaitLock(t, "voltrun rebuild executions")
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Equal(t, before.OIDs, f.standing(t).OIDs)
	f.requireNoLeftovers(t)

	go func() { ended <- f.rebuilder.Rebuild(f.ctx, "executions", nil) }()
	f.awaitLock(t, "voltrun rebuild executions")
	require.NoError(t, reader.Rollback(f.ctx))
	require.NoError(t, <-ended, "it is done once the reader is gone")
	projectionstest.RequireEqualToRebuilt(t, f.store, f.codec)
}

// awaitLock waits until a session of that name waits for a lock.
func (f fixture) awaitLock(t testing.TB, application string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var waits int
		err := f.store.Pool().QueryRow(f.ctx, `select count(*) from pg_stat_activity
			where datname = current_database() and application_name = $1 and wait_event_type = 'Lock'`, application).Scan(&waits)
		return err == nil && waits > 0
	}, 20*time.Second, time.Millisecond)
}

func TestOneRebuildOfAProjectionRunsAtATime(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	f.aLittleOfEverything(t)
	reader, err := f.store.Pool().Begin(f.ctx)
	require.NoError(t, err)
	_, err = reader.Exec(f.ctx, "select from keys limit 1")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- f.rebuilder.Rebuild(f.ctx, "keys", nil) }()
	f.awaitLock(t, "voltrun rebuild keys")
	require.ErrorIs(t, f.rebuilder.Rebuild(f.ctx, "keys", nil), projections.ErrRebuilding)
	_, err = f.rebuilder.Verify(f.ctx, "keys", nil)
	require.ErrorIs(t, err, projections.ErrRebuilding)
	require.NoError(t, f.rebuilder.Rebuild(f.ctx, "accounts", nil), "another projection's is free")
	_, err = f.rebuilder.Setup(f.ctx)
	require.NoError(t, err, "a server that starts leaves it alone")
	require.NoError(t, reader.Rollback(f.ctx))
	require.NoError(t, <-ended)
	f.requireNoLeftovers(t)
}

func TestWhatADeadRebuildLeftIsDroppedByTheNextStartOrRebuild(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	f.aLittleOfEverything(t)
	before := f.standing(t)
	f.exec(t, "create schema rebuild_keys") // somebody else's: it has not our mark
	require.ErrorContains(t, f.rebuilder.Rebuild(f.ctx, "keys", nil), "rebuild_keys")
	for _, name := range []string{"accounts", "executions"} {
		require.NoError(t, f.rebuilder.Abandon(f.ctx, name))
	}
	_, err := f.rebuilder.Setup(f.ctx)
	require.NoError(t, err)
	f.exec(t, "drop schema rebuild_keys")
	f.requireNoLeftovers(t)

	require.NoError(t, f.rebuilder.Abandon(f.ctx, "keys"))
	require.NoError(t, f.rebuilder.Rebuild(f.ctx, "keys", nil))
	f.requireNoLeftovers(t)
	require.Equal(t, before.Rows, f.standing(t).Rows)
}

func TestAnEventThatIsMissingIsNotRebuiltOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	f.aLittleOfEverything(t)
	before := f.standing(t)
	f.exec(t, "alter table events disable trigger user", "alter table events_1 disable trigger user", "delete from events where position = 7")
	for _, name := range f.rebuilder.Names() {
		require.ErrorContains(t, f.rebuilder.Rebuild(f.ctx, name, nil), "1 are missing", name)
	}
	require.Equal(t, before, f.standing(t))
	f.requireNoLeftovers(t)
}

func TestThereIsNoRebuildOfNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	require.True(t, domain.IsCode(f.rebuilder.Rebuild(f.ctx, "nothing", nil), domain.NotFound))
	_, err := f.rebuilder.Verify(f.ctx, "nothing", nil)
	require.True(t, domain.IsCode(err, domain.NotFound))
	require.NoError(t, f.rebuilder.Rebuild(f.ctx, "keys", nil), "an empty log has an empty read model")
}

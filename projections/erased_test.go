package projections_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// account registers somebody and gives them rows in every table.
func (f fixture) account(t testing.TB, email string) uuid.UUID {
	t.Helper()
	login, err := f.RegisterAccount.Handle(f.ctx, system, domain.RegisterAccount{Email: email, Password: "correct horse", Name: "Ada"})
	require.NoError(t, err)
	id := login.Account.ID
	function := f.function(t, id, "hello")
	f.run(t, id, function, `{}`, done(`1`), "a line")
	f.run(t, id, function, `{}`, nil, "another")
	_, err = f.CreateKey.Handle(f.ctx, system, id, "ci", nil)
	require.NoError(t, err)
	return id
}

func (f fixture) erase(t testing.TB, account uuid.UUID) {
	t.Helper()
	_, err := f.EraseAccount.Handle(f.ctx, system, domain.EraseAccount{AccountID: account})
	require.NoError(t, err)
}

// rows counts the rows of an account in each table, and as "erased" whether it is known to be.
func (f fixture) rows(t testing.TB, account uuid.UUID) map[string]int {
	t.Helper()
	rows, err := f.store.Pool().Query(f.ctx, `
		select 'accounts', count(*) from accounts where id = $1 union all
		select 'functions', count(*) from functions where account_id = $1 union all
		select 'executions', count(*) from executions where account_id = $1 union all
		select 'lines', count(*) from execution_logs l where exists (
			select from events where stream_id = l.execution_id and account_id = $1) union all
		select 'keys', count(*) from keys where account_id = $1 union all
		select 'erased', count(*) from erased_accounts where account_id = $1`, account)
	require.NoError(t, err)
	counts := map[string]int{}
	var table string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&table, &n}, func() error { counts[table] = n; return nil })
	require.NoError(t, err)
	return counts
}

var (
	allRows = map[string]int{"accounts": 1, "functions": 1, "executions": 2, "lines": 2, "keys": 1, "erased": 0}
	noRows  = map[string]int{"accounts": 0, "functions": 0, "executions": 0, "lines": 0, "keys": 0, "erased": 1}
)

func TestAnErasedAccountHasNoRowsAndEveryOtherHas(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	ada, bob := f.account(t, "ada@example.com"), f.account(t, "bob@example.com")
	f.caughtUp(t)
	require.Equal(t, allRows, f.rows(t, ada))
	f.erase(t, ada)
	eve := f.account(t, "ada@example.com")
	f.caughtUp(t)
	require.Equal(t, noRows, f.rows(t, ada))
	require.Equal(t, allRows, f.rows(t, bob))
	require.Equal(t, allRows, f.rows(t, eve), "who has the address now")
	projectionstest.RequireEqualToRebuilt(t, f.store, f.codec)
	erased, err := f.Accounts.ErasedAfter(f.ctx, 0)
	require.NoError(t, err)
	require.Len(t, erased, 1)
	require.Equal(t, ada, erased[0].ID)
	erased, err = f.Accounts.ErasedAfter(f.ctx, erased[0].Position)
	require.NoError(t, err)
	require.Empty(t, erased)
}

// memory is the vault as a process remembers it that was not told of an erasure.
type memory struct {
	*postgres.Store
	account uuid.UUID
	key     []byte
}

func (m memory) Get(ctx context.Context, owner uuid.UUID, name string) ([]byte, error) {
	if owner == m.account && name == eventstore.DataKeySecret {
		return m.key, nil
	}
	return m.Store.Get(ctx, owner, name)
}

// remembering is another process on the same database that remembers the account's key.
func (f fixture) remembering(t testing.TB, account uuid.UUID) fixture {
	t.Helper()
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	key, err := f.store.Get(f.ctx, account, eventstore.DataKeySecret)
	require.NoError(t, err)
	f.codec = storetest.Codec(memory{f.store, account, key})
	f.Handlers = commands.New(f.store, f.store, f.codec, passwords, []string{"nodejs"})
	f.rebuilder = projectionstest.Rebuilder(f.store, f.codec, projections.All())
	return f
}

// Such a process may rebuild, and reads everything until it comes to the account's end.
func TestARebuildThatCanStillReadAnErasedAccountLeavesNothingOfIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	ada := f.account(t, "ada@example.com")
	other := f.remembering(t, ada)
	f.erase(t, ada)
	f.caughtUp(t)
	for _, name := range other.rebuilder.Names() {
		require.NoError(t, other.rebuilder.Rebuild(f.ctx, name, nil))
	}
	require.Equal(t, noRows, f.rows(t, ada))
	projectionstest.RequireEqualToRebuilt(t, f.store, other.codec)
}

func (f fixture) awaitErasures(t testing.TB, eraser *projections.Eraser, what string, holds func(projections.ErasureStatus) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, err := eraser.Status(f.ctx)
		return err == nil && holds(status)
	}, time.Minute, 10*time.Millisecond, what)
}

// Another process appends for the account when it is gone already, and puts it into the read model. Only when no process
// can remember the key any more are the traces removed, and these with them.
func TestWhatCameLateForAnErasedAccountIsRemovedWithItsTraces(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	ada, bob := f.account(t, "ada@example.com"), f.account(t, "bob@example.com")
	other := f.remembering(t, ada)
	f.erase(t, ada)
	other.function(t, ada, "late")
	f.caughtUp(t)
	require.Equal(t, noRows, f.rows(t, ada), "whoever was told reads it no more")
	require.NoError(t, other.rebuilder.Rebuild(f.ctx, "functions", nil))
	require.Equal(t, 1, f.rows(t, ada)["functions"])

	blocker, err := f.store.Pool().Begin(f.ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = blocker.Rollback(f.ctx) })
	_, err = blocker.Exec(f.ctx, "lock table vault in access share mode") // as a backup does
	require.NoError(t, err)
	eraser := projections.NewEraser(f.store, f.codec.Keys(), f.rebuilder, slog.New(slog.DiscardHandler))
	began := time.Now()
	eraser.Start()
	t.Cleanup(eraser.Stop)
	f.awaitErasures(t, eraser, "somebody has the vault", func(s projections.ErasureStatus) bool {
		return s.State == projections.ErasureFailed && s.Pending == 1 && strings.Contains(s.Error, "vault")
	})
	require.Greater(t, time.Since(began), eventstore.KeysRememberedFor)
	require.NoError(t, blocker.Rollback(f.ctx))
	f.awaitErasures(t, eraser, "it is tried again", func(s projections.ErasureStatus) bool { return s.State == projections.ErasureIdle && s.Position > 0 })
	require.Equal(t, noRows, f.rows(t, ada))
	require.Equal(t, allRows, f.rows(t, bob))
	projectionstest.RequireEqualToRebuilt(t, f.store, f.codec)
}

// A process has appended the end of an account and was gone before it could destroy the key.
func TestAKeyThatNobodyDestroyedIsDestroyedByAnEraser(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	ada := f.account(t, "ada@example.com")
	f.append(t, []fact{{ada, ada, domain.AccountErased{AccountID: ada}}})
	f.caughtUp(t)
	eraser := projections.NewEraser(f.store, f.codec.Keys(), f.rebuilder, slog.New(slog.DiscardHandler))
	eraser.Start()
	t.Cleanup(eraser.Stop)
	require.Eventually(t, func() bool {
		erased, err := f.store.Erased(f.ctx, ada)
		return err == nil && erased
	}, 10*time.Second, 5*time.Millisecond)
	_, err := f.store.Get(f.ctx, ada, eventstore.DataKeySecret)
	require.ErrorIs(t, err, eventstore.ErrNoSecret)
}

// Statistics hold samples of values, and outlive their rows and their tables.
func TestWhatPeopleWroteIsNotInStatistics(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	rows, err := f.store.Pool().Query(f.ctx, `select c.relname || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
		where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
		  and a.atttypid in ('text'::regtype, 'bytea'::regtype) and a.attstattarget is distinct from 0
		  and c.relname in (select unnest(tables) from projections union values ('vault'), ('answers')) order by 1`)
	require.NoError(t, err)
	sampled, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{
		"execution_logs.stream", "executions.runtime", "executions.status", "functions.network", "functions.runtime", "functions.status", "keys.prefix", "vault.name",
	}, sampled, "these hold words of ours; in any other column set statistics to 0")
}

package projections_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore/archive"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

// The lines that went to the archive are gone from the read model as well, in the one that was there and in those that
// are built when the log does not hold them any more.
func TestWhatIsArchivedIsGoneFromTheReadModelsHoweverTheyWereBuilt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	f.shrinkFirstPartition(t, 1000)
	keeps, other := f.registered(t, "keeps@example.com"), f.registered(t, "other@example.com")
	days := 90
	_, err := f.SetRetention.Handle(f.ctx, system, domain.SetRetention{AccountID: keeps, Days: map[string]*int{"execution.log_line": &days}})
	require.NoError(t, err)
	function := map[uuid.UUID]uuid.UUID{keeps: f.function(t, keeps, "kept"), other: f.function(t, other, "other")}
	kept := f.run(t, keeps, function[keeps], "1", done("1"), "one", "two", "three")
	old := f.run(t, other, function[other], "1", done("1"), "one", "two", "three")
	for range 170 {
		f.run(t, other, function[other], "1", done("1"), "one", "two", "three")
	}
	recent := f.run(t, other, function[other], "1", done("1"), "one")
	f.caughtUp(t)
	archiver := archive.NewArchiver(f.store, f.codec, archive.Config{
		Dir: t.TempDir(), Retention: map[string]time.Duration{"execution.log_line": 30 * domain.Day}, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().AddDate(0, 0, 31) },
	})
	require.NoError(t, archiver.Run(t.Context(), func(domain.LogArchived) {}))
	f.caughtUp(t)

	logs := func(owner, id uuid.UUID) projections.ExecutionLogs {
		got, err := f.Logs.Get(f.ctx, owner, id)
		require.NoError(t, err)
		return got
	}
	require.Equal(t, projections.ExecutionLogs{ExecutionID: old, Status: domain.ExecutionSuccess, Archived: true}, logs(other, old))
	require.Equal(t, projections.ExecutionLogs{ExecutionID: kept, Status: domain.ExecutionSuccess, Logs: "one\ntwo\nthree\n"}, logs(keeps, kept))
	require.Equal(t, projections.ExecutionLogs{ExecutionID: recent, Status: domain.ExecutionSuccess, Logs: "one\n"}, logs(other, recent))
	x, err := f.Executions.Get(f.ctx, other, old)
	require.NoError(t, err)
	require.True(t, x.LogsArchived)
	projectionstest.RequireEqualToRebuilt(t, f.store, f.codec)
}

func (f fixture) registered(t *testing.T, email string) uuid.UUID {
	t.Helper()
	login, err := f.RegisterAccount.Handle(f.ctx, system, domain.RegisterAccount{Email: email, Password: "correct horse", Name: "A"})
	require.NoError(t, err)
	return login.Account.ID
}

// shrinkFirstPartition gives a log without events a first partition of this size.
func (f fixture) shrinkFirstPartition(t *testing.T, size int64) {
	t.Helper()
	store, err := postgres.Open(f.ctx, f.store.Pool().Config().ConnString(), uuid.New(), slog.New(slog.DiscardHandler), postgres.PartitionSize(size))
	require.NoError(t, err)
	store.Close()
}

package commands_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// BenchmarkALongStream tells how much longer a command takes when its stream is long: a change of a function and the request
// of an execution, both of which remember the fold, and the first command of a process, which folds all of it. Snapshots
// would be for that one.
func BenchmarkALongStream(b *testing.B) {
	dsn := pgtest.Database(b)
	_, err := postgres.Migrate(b.Context(), dsn)
	require.NoError(b, err)
	store, err := postgres.Open(b.Context(), dsn, uuid.New(), slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	defer store.Close()
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(b, err)
	start := func() *commands.Handlers {
		return commands.New(store, store, storetest.Codec(store), passwords, []string{"nodejs"})
	}
	h, account := start(), uuid.New()
	for _, events := range []int{1, 100, 1000, 10_000} {
		function, _, err := h.CreateFunction.Handle(b.Context(), anonymous, domain.CreateFunction{AccountID: account, Name: "f", Runtime: "nodejs", Code: "code"})
		require.NoError(b, err)
		lengthen(b, store, account, function, events-1)
		n := 0
		b.Run(fmt.Sprintf("update-after-%d", events), func(b *testing.B) {
			for b.Loop() {
				n++
				description := fmt.Sprint(n)
				_, err := h.UpdateFunction.Handle(b.Context(), anonymous, domain.UpdateFunction{
					FunctionID: function, AccountID: account, Changes: domain.FunctionChanges{Description: &description},
				})
				require.NoError(b, err)
			}
			b.ReportMetric(float64(events), "events")
		})
		b.Run(fmt.Sprintf("first-execute-after-%d", events), func(b *testing.B) {
			for b.Loop() {
				_, _, err := start().RequestExecution.Handle(b.Context(), anonymous, domain.RequestExecution{AccountID: account, FunctionID: function})
				require.NoError(b, err)
			}
		})
		b.Run(fmt.Sprintf("execute-after-%d", events), func(b *testing.B) {
			for b.Loop() {
				_, _, err := h.RequestExecution.Handle(b.Context(), anonymous, domain.RequestExecution{AccountID: account, FunctionID: function})
				require.NoError(b, err)
			}
		})
	}
}

// lengthen changes a function so many times, its code of a few kilobytes included.
func lengthen(b *testing.B, store *postgres.Store, account, function uuid.UUID, changes int) {
	b.Helper()
	codec := storetest.Codec(store)
	for changes > 0 {
		w := eventstore.Write{StreamID: function, Expected: eventstore.Any}
		for range min(changes, 500) {
			code := strings.Repeat("// a line of code that says something\n", 100)
			e, err := codec.Encode(b.Context(), uuid.New(), domain.FunctionUpdated{FunctionChanges: domain.FunctionChanges{Code: &code}},
				eventstore.Metadata{AccountID: account, Actor: anonymous.Actor})
			require.NoError(b, err)
			w.Events = append(w.Events, e)
		}
		_, err := store.Append(b.Context(), w)
		require.NoError(b, err)
		changes -= len(w.Events)
	}
}

package domain_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/domain/domaintest"
)

// Whatever stands in a stream, folding it neither fails nor depends on anything but the events.
func TestFoldsArePureOverAnyEvents(t *testing.T) {
	t.Parallel()
	t.Run("email reservation", foldIsPure[domain.EmailReservation](domain.EmailReserved{}))
	t.Run("account", foldIsPure[domain.Account](domain.AccountRegistered{}))
	t.Run("session", foldIsPure[domain.Session](domain.SessionStarted{}, domain.SessionRefreshed{}, domain.SessionRevoked{}))
	t.Run("function", foldIsPure[domain.Function](domain.FunctionCreated{}, domain.FunctionUpdated{}, domain.FunctionDeleted{}))
	t.Run("execution", foldIsPure[domain.Execution](domain.ExecutionRequested{}, domain.ExecutionStarted{}, domain.ExecutionLogLine{},
		domain.ExecutionCompleted{}, domain.ExecutionFailed{}))
	t.Run("key", foldIsPure[domain.Key](domain.KeyCreated{}, domain.KeyDeleted{}))
}

// nobodysEvent is of a type that no state knows.
type nobodysEvent struct{}

func (nobodysEvent) EventType() string { return "nobody.knows" }

// foldIsPure folds events of the aggregate's own types, mostly, and of any others.
func foldIsPure[S domain.State[S]](own ...domain.Event) func(*testing.T) {
	return func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) { checkFold[S](t, own) })
	}
}

func checkFold[S domain.State[S]](t *rapid.T, own []domain.Event) {
	// Of few types at a time, so that each comes often.
	types := rapid.SliceOfNDistinct(rapid.SampledFrom(own), 1, len(own), domain.Event.EventType).Draw(t, "types")
	events := rapid.SliceOfN(rapid.OneOf(domaintest.EventOf(types...), domaintest.EventOf(types...), domaintest.Event()), 0, 10)
	history, one, other := events.Draw(t, "history"), events.Draw(t, "one future"), events.Draw(t, "another future")

	state := domain.Fold[S](history...)
	kind := rapid.SampledFrom(own).Draw(t, "gone").EventType()
	for _, gone := range []domain.Event{nobodysEvent{}, domain.Redacted{Type: kind}, domain.Archived{Type: kind}} {
		require.Equal(t, state, state.Evolve(gone), "what is not known changes nothing")
	}
	this, that := state, state
	for i := range max(len(one), len(other)) {
		this, that = evolve(this, one, i), evolve(that, other, i)
	}
	require.Equal(t, domain.Fold[S](history...), state, "evolving leaves the state as it was")
	require.Equal(t, domain.Fold[S](slices.Concat(history, one)...), this, "two futures of a state do not meet")
	require.Equal(t, domain.Fold[S](slices.Concat(history, other)...), that, "two futures of a state do not meet")
}

func evolve[S domain.State[S]](state S, events []domain.Event, i int) S {
	if i < len(events) {
		return state.Evolve(events[i])
	}
	return state
}

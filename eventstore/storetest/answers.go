package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
)

// AnsweringVault is a vault that keeps answers as well, and forgets them with an owner's secrets.
type AnsweringVault interface {
	eventstore.Answers
	eventstore.Vault
}

// RunAnswers checks the promises of a store of answers: the first one counts until its time is over, and no answer
// outlives its time or its account.
func RunAnswers(t *testing.T, s AnsweringVault) {
	ctx, now := context.Background(), time.Now().UTC().Truncate(time.Microsecond)
	account := uuid.New()
	answer := func(id uuid.UUID, text string, account uuid.UUID, lifetime time.Duration) eventstore.Answer {
		return eventstore.Answer{ID: id, AccountID: account, Sealed: []byte(text), KeptUntil: now.Add(lifetime)}
	}
	keep := func(a eventstore.Answer, at time.Time) string {
		kept, err := s.KeepAnswer(ctx, a, at)
		require.NoError(t, err)
		return string(kept)
	}
	find := func(id uuid.UUID, at time.Time) string {
		kept, err := s.Answer(ctx, id, at)
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrNoAnswer)
		}
		return string(kept)
	}

	short, long, nobodys := uuid.New(), uuid.New(), uuid.New()
	require.Empty(t, find(short, now))
	require.Equal(t, "first", keep(answer(short, "first", account, time.Hour), now))
	require.Equal(t, "first", keep(answer(short, "second", account, time.Hour), now), "the first answer counts")
	require.Equal(t, "first", find(short, now.Add(time.Hour-1000)))
	require.Empty(t, find(short, now.Add(time.Hour)), "its time is over")
	require.Equal(t, "next", keep(answer(short, "next", account, 2*time.Hour), now.Add(time.Hour)))
	require.Equal(t, "next", find(short, now.Add(time.Hour)))

	require.Equal(t, "long", keep(answer(long, "long", account, 9*time.Hour), now))
	require.Equal(t, "nobody's", keep(answer(nobodys, "nobody's", uuid.Nil, 9*time.Hour), now))
	pruned, err := s.PruneAnswers(ctx, now.Add(2*time.Hour))
	require.NoError(t, err)
	require.Equal(t, 1, pruned)
	require.Equal(t, []string{"", "long"}, []string{find(short, now), find(long, now)})

	for _, forget := range []func(context.Context, uuid.UUID) error{s.Forget, s.Erase} {
		require.Equal(t, "long", keep(answer(long, "long", account, 9*time.Hour), now))
		require.NoError(t, forget(ctx, account))
		require.Equal(t, []string{"", "nobody's"}, []string{find(long, now), find(nobodys, now)})
	}
}

package commands_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

func TestOneOfManyRunsOnManyServersHasAnEffect(t *testing.T) {
	t.Parallel()
	f, here, there := newServers(t)
	servers := []*server{here, there, newServer(t, f.store), newServer(t, f.store)}
	var made atomic.Int64
	run := func(ctx context.Context, h *commands.Handlers) ([]byte, commands.Outcome) {
		_, outcome := createKey(uuid.New())(ctx, h)
		return fmt.Append(nil, "answer ", made.Add(1)), outcome // each run has another answer
	}
	for round := range 50 {
		r, before := requestOf(fmt.Sprint("k", round)), len(f.types(t))
		answers := make([]string, 40)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i], _ = servers[i%len(servers)].must(t, r, run) })
		}
		wg.Wait()
		require.Len(t, slices.Compact(answers), 1)
		require.Equal(t, []string{"request.carried_out", "key.created"}, f.types(t)[before:])
	}
}

func TestTheAnswerThatIsKeptFirstIsEverybodys(t *testing.T) {
	t.Parallel()
	_, here, there := newServers(t)
	answering := func(text string) commands.Run {
		return func(ctx context.Context, h *commands.Handlers) ([]byte, commands.Outcome) {
			_, outcome := createKey(uuid.New())(ctx, h)
			return []byte(text), outcome
		}
	}
	here.answers.before = func() {
		told, repeated := there.must(t, requestOf("k"), answering("there"))
		require.Equal(t, []any{"there", true}, []any{told, repeated})
	}
	mine, repeated := here.must(t, requestOf("k"), answering("here"))
	require.Equal(t, []any{"there", false}, []any{mine, repeated})
}

func TestAnotherContentUnderAKeyIsRefused(t *testing.T) {
	t.Parallel()
	f, here, there := newServers(t)
	r := requestOf("k")
	other := r
	other.Content = []byte("POST /keys else")
	refused := func() {
		t.Helper()
		for _, s := range []*server{here, there} {
			_, _, err := s.Do(f.ctx, other, createKey(uuid.New()))
			require.True(t, domain.IsCode(err, domain.KeyReused), "%v", err)
		}
	}
	here.answers.broken.Store(true)
	_, _, err := here.Do(f.ctx, r, createKey(uuid.New()))
	require.ErrorIs(t, err, errBroken)
	refused()
	there.must(t, r, createKey(uuid.New()))
	refused()
	require.Equal(t, []string{"request.carried_out", "key.created"}, f.types(t))
}

func TestAKeyCanBeUsedAnewWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	f, here, _ := newServers(t)
	r := requestOf("k")
	first, _ := here.must(t, r, createKey(uuid.New()))
	here.SetClock(func() time.Time { return time.Now().Add(commands.AnswersKept - time.Minute) })
	still, repeated := here.must(t, r, createKey(uuid.New()))
	require.Equal(t, []any{first, true}, []any{still, repeated})

	here.SetClock(func() time.Time { return time.Now().Add(commands.AnswersKept + time.Minute) })
	pruned, err := here.Prune(f.ctx)
	require.NoError(t, err)
	require.Equal(t, 1, pruned)
	r.Content = []byte("something else")
	second, repeated := here.must(t, r, createKey(uuid.New()))
	require.False(t, repeated)
	require.NotEqual(t, first, second)
	require.Len(t, f.types(t), 4)
}

func TestARunHasOneAppend(t *testing.T) {
	t.Parallel()
	f, here, _ := newServers(t)
	runs := 0
	twice := func(ctx context.Context, h *commands.Handlers) ([]byte, commands.Outcome) {
		runs++
		answer, outcome := createKey(uuid.New())(ctx, h)
		require.Equal(t, commands.Done, outcome, "%s", answer)
		answer, outcome = createKey(uuid.New())(ctx, h)
		require.Equal(t, commands.Refused, outcome)
		require.Contains(t, string(answer), "second append")
		return nil, commands.Failed
	}
	here.must(t, requestOf("k"), twice)
	here.must(t, requestOf("k"), twice) // looking back
	require.Equal(t, 2, runs)
	require.Equal(t, []string{"request.carried_out", "key.created"}, f.types(t))
}

func TestARunWithoutAnEffectIsAnsweredTheSameAllTheSame(t *testing.T) {
	t.Parallel()
	f, here, there := newServers(t)
	runs := 0
	count := func(context.Context, *commands.Handlers) ([]byte, commands.Outcome) {
		runs++
		return fmt.Append(nil, runs), commands.Done
	}
	for _, s := range []*server{here, there, here} {
		answer, _ := s.must(t, requestOf("k"), count)
		require.Equal(t, "1", answer)
	}
	require.Empty(t, f.types(t))
}

func TestAFailureIsNoAnswer(t *testing.T) {
	t.Parallel()
	f, here, _ := newServers(t)
	fail := func(ctx context.Context, h *commands.Handlers) ([]byte, commands.Outcome) {
		createKey(uuid.New())(ctx, h)
		return []byte("failed"), commands.Failed
	}
	answer, _ := here.must(t, requestOf("k"), fail)
	require.Equal(t, "failed", answer)
	answer, repeated := here.must(t, requestOf("k"), createKey(uuid.New()))
	require.True(t, repeated)
	require.Contains(t, answer, "vr_")
	require.Len(t, f.types(t), 2)
}

func TestWhoeverWaitsTakesOverFromARunThatFails(t *testing.T) {
	t.Parallel()
	_, here, _ := newServers(t)
	running, end := make(chan struct{}), make(chan struct{})
	go func() {
		_, _, _ = here.Do(t.Context(), requestOf("k"), func(context.Context, *commands.Handlers) ([]byte, commands.Outcome) {
			close(running)
			<-end
			return nil, commands.Failed
		})
	}()
	<-running
	answered := make(chan string)
	go func() {
		answer, _, err := here.Do(context.WithoutCancel(t.Context()), requestOf("k"), createKey(uuid.New()))
		answered <- fmt.Sprint(string(answer), err)
	}()
	close(end)
	require.Contains(t, <-answered, "vr_")
}

func TestWhoeverWaitsIsToldWhenItTakesTooLong(t *testing.T) {
	t.Parallel()
	_, here, _ := newServers(t)
	here.Patience = time.Millisecond
	running, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	go func() {
		_, _, _ = here.Do(context.WithoutCancel(t.Context()), requestOf("k"), func(context.Context, *commands.Handlers) ([]byte, commands.Outcome) {
			close(running)
			<-end
			return nil, commands.Failed
		})
	}()
	<-running
	_, _, err := here.Do(t.Context(), requestOf("k"), createKey(uuid.New()))
	require.Equal(t, commands.ErrStillRunning, err)

	here.Patience = time.Hour
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = here.Do(gone, requestOf("k"), createKey(uuid.New()))
	require.ErrorIs(t, err, context.Canceled)
}

func TestOwnersAndKeysDoNotRunIntoEachOther(t *testing.T) {
	t.Parallel()
	f, here, _ := newServers(t)
	for i, r := range []commands.Request{{Owner: "a", Key: "bc"}, {Owner: "ab", Key: "c"}, {Owner: "abc"}, {Key: "abc"}} {
		_, repeated := here.must(t, r, createKey(uuid.New()))
		require.False(t, repeated)
		require.Len(t, f.types(t), 2*i+2)
	}
}

// The log is read by more people than the keys of requests.
func TestAReceiptTellsNothingWithoutTheKey(t *testing.T) {
	t.Parallel()
	f, here, _ := newServers(t)
	codec := storetest.Codec(f.store)
	for _, key := range []string{"a", "b"} {
		here.must(t, requestOf(key), createKey(uuid.New()))
	}
	fingerprints := map[string]bool{}
	for event := range f.store.ReadAll(f.ctx, 0) {
		fact, err := codec.Decode(f.ctx, event.NewEvent)
		require.NoError(t, err)
		if receipt, ok := fact.(domain.RequestCarriedOut); ok {
			fingerprints[string(receipt.Fingerprint)] = true
			require.Equal(t, anonymous.RequestID, event.CorrelationID)
		}
	}
	require.Len(t, fingerprints, 2, "the same content has another fingerprint under another key")
}

func TestARegistrationThatIsOvertakenLeavesNoHash(t *testing.T) {
	t.Parallel()
	_, here, there := newServers(t)
	open := command(func(ctx context.Context, h *commands.Handlers) (commands.Login, error) {
		return h.RegisterAccount.Handle(ctx, anonymous, register("ada@example.com"))
	})
	var theirs string
	mine, repeated := here.must(t, requestOf("k"), func(ctx context.Context, h *commands.Handlers) ([]byte, commands.Outcome) {
		if theirs == "" {
			theirs, _ = there.must(t, requestOf("k"), command(func(ctx context.Context, h *commands.Handlers) (commands.Login, error) {
				return h.RegisterAccount.Handle(ctx, anonymous, register("other@example.com"))
			}))
		}
		return open(ctx, h)
	})
	require.True(t, repeated)
	require.Equal(t, theirs, mine)
	require.Equal(t, here.vault.puts.Load(), here.vault.forgets.Load())
}

package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// server is one of the servers on a log.
type server struct {
	*commands.Idempotency
	handlers *commands.Handlers
	vault    *watchedVault
	answers  *frailAnswers
}

// watchedVault counts what is put into it.
type watchedVault struct {
	eventstore.Vault
	puts, forgets atomic.Int64
}

func (v *watchedVault) Put(ctx context.Context, owner uuid.UUID, name string, secret []byte) error {
	v.puts.Add(1)
	return v.Vault.Put(ctx, owner, name, secret)
}

func (v *watchedVault) Forget(ctx context.Context, owner uuid.UUID) error {
	v.forgets.Add(1)
	return v.Vault.Forget(ctx, owner)
}

// frailAnswers keeps nothing while it is broken: as if the server had ended before it kept the answer.
type frailAnswers struct {
	eventstore.Answers
	broken atomic.Bool
	before func() // what happens before an answer is kept, if anything
}

var errBroken = errors.New("nothing is kept now")

func (a *frailAnswers) KeepAnswer(ctx context.Context, answer eventstore.Answer, now time.Time) ([]byte, error) {
	if a.broken.Load() {
		return nil, errBroken
	}
	if a.before != nil {
		a.before()
	}
	return a.Answers.KeepAnswer(ctx, answer, now)
}

var root = [32]byte{1, 2, 3}

func newServer(t *testing.T, store *memory.Store, runtimes ...string) *server {
	t.Helper()
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	s := &server{vault: &watchedVault{Vault: store}, answers: &frailAnswers{Answers: store}}
	s.handlers = commands.New(store, s.vault, storetest.Codec(store), passwords, runtimes)
	s.Idempotency = commands.NewIdempotency(s.handlers, s.answers, root)
	return s
}

// newServers returns a log and two servers on it.
func newServers(t *testing.T) (fixture, *server, *server) {
	t.Helper()
	store := memory.New()
	here, there := newServer(t, store, "nodejs"), newServer(t, store, "nodejs")
	return fixture{here.handlers, store, t.Context()}, here, there
}

// command runs a command for a request and answers with what the handler returned.
func command[R any](handle func(context.Context, *commands.Handlers) (R, error)) commands.Run {
	return func(ctx context.Context, h *commands.Handlers) ([]byte, commands.Outcome) {
		result, err := handle(ctx, h)
		if err != nil {
			return []byte(err.Error()), commands.Refused
		}
		answer, err := json.Marshal(result)
		if err != nil {
			return nil, commands.Failed
		}
		return answer, commands.Done
	}
}

var createKey = func(account uuid.UUID) commands.Run {
	return command(func(ctx context.Context, h *commands.Handlers) (commands.NewKey, error) {
		return h.CreateKey.Handle(ctx, anonymous, account, "ci", nil)
	})
}

func (s *server) must(t *testing.T, r commands.Request, run commands.Run) (string, bool) {
	t.Helper()
	answer, repeated, err := s.Do(t.Context(), r, run)
	require.NoError(t, err)
	return string(answer), repeated
}

func requestOf(key string) commands.Request {
	return commands.Request{Owner: "ada", Key: key, Content: []byte("POST /keys")}
}

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

// The world goes on between the effect and the next try, and the answer is still the first one's.
func TestAnAnswerThatWasLostIsComeToAgain(t *testing.T) {
	t.Parallel()
	f, here, there := newServers(t)
	account, err := f.RegisterAccount.Handle(f.ctx, anonymous, register("ada@example.com"))
	require.NoError(t, err)
	owner := account.Account.ID
	function := f.function(t, owner)
	rename := func(name string) {
		_, err := f.UpdateFunction.Handle(f.ctx, anonymous, domain.UpdateFunction{
			FunctionID: function, AccountID: owner, Changes: domain.FunctionChanges{Name: &name},
		})
		require.NoError(t, err)
	}
	expires := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		run   commands.Run
		after func()
	}{
		"register": {run: command(func(ctx context.Context, h *commands.Handlers) (commands.Login, error) {
			return h.RegisterAccount.Handle(ctx, anonymous, register("eve@example.com"))
		})},
		"log in": {run: command(func(ctx context.Context, h *commands.Handlers) (commands.Login, error) {
			return h.LogIn.Handle(ctx, anonymous, domain.LogIn{Email: "ada@example.com", Password: "correct horse"})
		})},
		"refresh by token": {run: command(func(ctx context.Context, h *commands.Handlers) (commands.Login, error) {
			return h.RefreshSession.ByToken(ctx, anonymous, account.RefreshToken)
		})},
		"create a function": {run: command(func(ctx context.Context, h *commands.Handlers) (uuid.UUID, error) {
			id, _, err := h.CreateFunction.Handle(ctx, anonymous, domain.CreateFunction{AccountID: owner, Name: "n", Runtime: "nodejs", Code: "c"})
			return id, err
		})},
		"update a function": {run: command(func(ctx context.Context, h *commands.Handlers) (eventstore.Position, error) {
			renamed := "once"
			return h.UpdateFunction.Handle(ctx, anonymous, domain.UpdateFunction{
				FunctionID: function, AccountID: owner, Changes: domain.FunctionChanges{Name: &renamed},
			})
		}), after: func() { rename("later") }},
		"execute": {run: command(func(ctx context.Context, h *commands.Handlers) (uuid.UUID, error) {
			id, _, err := h.RequestExecution.Handle(ctx, anonymous, domain.RequestExecution{AccountID: owner, FunctionID: function})
			return id, err
		}), after: func() {
			doomed := f.function(t, owner)
			_, err := f.DeleteFunction.Handle(f.ctx, anonymous, domain.DeleteFunction{FunctionID: doomed, AccountID: owner})
			require.NoError(t, err)
		}},
		"create a key": {run: command(func(ctx context.Context, h *commands.Handlers) (commands.NewKey, error) {
			return h.CreateKey.Handle(ctx, anonymous, owner, "ci", &expires)
		})},
	} {
		var first []byte
		here.answers.broken.Store(true)
		_, _, err := here.Do(f.ctx, requestOf(name), func(ctx context.Context, h *commands.Handlers) ([]byte, commands.Outcome) {
			answer, outcome := c.run(ctx, h)
			require.Equal(t, commands.Done, outcome, "%s: %s", name, answer)
			first = answer
			return answer, outcome
		})
		require.ErrorIs(t, err, errBroken, "an answer that is not kept is not given")
		if c.after != nil {
			c.after()
		}
		there.SetClock(func() time.Time { return time.Now().Add(2 * time.Hour) }) // the key that is made has expired by then
		before, puts := f.types(t), there.vault.puts.Load()
		told, repeated := there.must(t, requestOf(name), c.run)
		require.True(t, repeated, name)
		require.Equal(t, string(first), told, name)
		require.Equal(t, before, f.types(t), "%s: looking back appends nothing", name)
		require.Equal(t, puts, there.vault.puts.Load(), "%s: looking back changes no secret", name)
	}
}

func TestADeletedFunctionsLastExecutionIsToldAgain(t *testing.T) {
	t.Parallel()
	f, here, there := newServers(t)
	owner := uuid.New()
	function := f.function(t, owner)
	execute := command(func(ctx context.Context, h *commands.Handlers) (uuid.UUID, error) {
		id, _, err := h.RequestExecution.Handle(ctx, anonymous, domain.RequestExecution{AccountID: owner, FunctionID: function})
		return id, err
	})
	here.answers.broken.Store(true)
	_, _, err := here.Do(f.ctx, requestOf("k"), execute)
	require.ErrorIs(t, err, errBroken)
	_, err = f.DeleteFunction.Handle(f.ctx, anonymous, domain.DeleteFunction{FunctionID: function, AccountID: owner})
	require.NoError(t, err)
	_, _, err = f.RequestExecution.Handle(f.ctx, anonymous, domain.RequestExecution{AccountID: owner, FunctionID: function})
	require.True(t, domain.IsCode(err, domain.NotFound), "%v", err)
	for _, s := range []*server{here, there} { // one that knows that the function is gone, and one that knows nothing of it
		_, _, err := s.Do(f.ctx, requestOf("k"), command(func(ctx context.Context, h *commands.Handlers) (uuid.UUID, error) {
			told, outcome := execute(ctx, h)
			require.Equal(t, commands.Done, outcome, "%s", told)
			return uuid.Nil, nil
		}))
		if s == here {
			require.ErrorIs(t, err, errBroken)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestWhatCannotBeToldAgainIsNotMadeUp(t *testing.T) {
	t.Parallel()
	f, here, _ := newServers(t)
	create := command(func(ctx context.Context, h *commands.Handlers) (uuid.UUID, error) {
		id, _, err := h.CreateFunction.Handle(ctx, anonymous, domain.CreateFunction{AccountID: uuid.New(), Name: "n", Runtime: "nodejs", Code: "c"})
		return id, err
	})
	here.answers.broken.Store(true)
	_, _, err := here.Do(f.ctx, requestOf("k"), create)
	require.ErrorIs(t, err, errBroken)
	before := f.types(t)
	_, _, err = newServer(t, f.store, "python").Do(f.ctx, requestOf("k"), create)
	require.True(t, domain.IsCode(err, domain.Conflict), "%v", err)
	require.ErrorContains(t, err, "was carried out")
	require.Equal(t, before, f.types(t))
}

// A later version of a command may do something else than the one that carried the request out.
func TestTheAnswerToSomethingElseIsNotGiven(t *testing.T) {
	t.Parallel()
	f, here, there := newServers(t)
	owner := uuid.New()
	functions := []uuid.UUID{f.function(t, owner), f.function(t, owner)}
	rename := func(function uuid.UUID, name string) commands.Run {
		return command(func(ctx context.Context, h *commands.Handlers) (eventstore.Position, error) {
			return h.UpdateFunction.Handle(ctx, anonymous, domain.UpdateFunction{
				FunctionID: function, AccountID: owner, Changes: domain.FunctionChanges{Name: &name},
			})
		})
	}
	here.answers.broken.Store(true)
	_, _, err := here.Do(f.ctx, requestOf("k"), rename(functions[0], "renamed"))
	require.ErrorIs(t, err, errBroken)
	here.answers.broken.Store(false)
	here.must(t, requestOf("later"), rename(functions[1], "later"))
	_, _, err = there.Do(f.ctx, requestOf("k"), rename(functions[1], "renamed"))
	require.ErrorContains(t, err, "was carried out")
}

func TestARequestOfAnErasedAccountIsNotCarriedOutAgain(t *testing.T) {
	t.Parallel()
	f, here, _ := newServers(t)
	account := uuid.New()
	here.must(t, requestOf("k"), createKey(account))
	require.NoError(t, f.store.Erase(f.ctx, account))
	before := f.types(t)
	_, _, err := newServer(t, f.store).Do(f.ctx, requestOf("k"), createKey(uuid.New()))
	require.ErrorContains(t, err, "was carried out")
	require.Equal(t, before, f.types(t))
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

// What another run would make differently has to come from the journal, or an answer could not be come to again.
func TestCommandsTakeTimeIdsAndSecretsFromTheJournalOnly(t *testing.T) {
	t.Parallel()
	own := []string{"journal.go", "handlers.go", "passwords.go", "idempotency.go", "idempotency_attempt.go", "idempotency_identity.go"}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	checked := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || slices.Contains(own, file) {
			continue
		}
		checked++
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, imported := range parsed.Imports {
			require.NotContains(t, imported.Path.Value, "/rand", file)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch name := nameOf(call.Fun); name {
			case "time.Now", "uuid.New", "uuid.NewString", "uuid.NewV7", "uuid.NewRandom", "newID":
				t.Errorf("%s calls %s: take it from the journal", file, name)
			}
			return true
		})
	}
	require.Greater(t, checked, 10)
}

func nameOf(e ast.Expr) string {
	switch f := e.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return nameOf(f.X) + "." + f.Sel.Name
	}
	return ""
}

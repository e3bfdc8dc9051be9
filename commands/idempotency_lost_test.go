package commands_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

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

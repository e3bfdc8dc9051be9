package commands_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/domain/domaintest"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// Two accounts and two workers do anything to anything. What is refused leaves the log as it was, what is accepted stands
// in the stream of its owner, and executions end once.
func TestNobodyWritesIntoAnothersHistory(t *testing.T) {
	t.Parallel()
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		m := newCrowd(t, passwords)
		t.Repeat(map[string]func(*rapid.T){
			"create a function":    m.createFunction,
			"update a function":    m.updateFunction,
			"delete a function":    m.deleteFunction,
			"request an execution": m.requestExecution,
			"claim an execution":   m.claimExecution,
			"report an execution":  m.reportExecution,
			"abandon an execution": m.abandonExecution,
			"create a key":         m.createKey,
			"delete a key":         m.deleteKey,
			"refresh a session":    m.refreshSession,
			"":                     m.requireOrder,
		})
	})
}

// crowd remembers whose everything is.
type crowd struct {
	*commands.Handlers
	log        *memory.Store
	accounts   []uuid.UUID
	workers    []uuid.UUID
	functions  map[uuid.UUID]uuid.UUID // their owners
	executions map[uuid.UUID]uuid.UUID
	keys       map[uuid.UUID]uuid.UUID
	tokens     []string // every refresh token that was given out
	attempts   []*domain.Attempt
}

func newCrowd(t *rapid.T, passwords *commands.Passwords) *crowd {
	log := memory.New()
	m := &crowd{
		Handlers: commands.New(log, log, storetest.Codec(log), passwords, []string{"nodejs"}), log: log,
		workers:   []uuid.UUID{uuid.New(), uuid.New()},
		functions: map[uuid.UUID]uuid.UUID{}, executions: map[uuid.UUID]uuid.UUID{}, keys: map[uuid.UUID]uuid.UUID{},
	}
	for _, email := range []string{"ada@example.com", "eve@example.com"} {
		login, err := m.RegisterAccount.Handle(context.Background(), anonymous, register(email))
		require.NoError(t, err)
		m.accounts, m.tokens = append(m.accounts, login.Account.ID), append(m.tokens, login.RefreshToken)
	}
	return m
}

func (m *crowd) head() eventstore.Position {
	head, _ := m.log.Head(context.Background())
	return head
}

// somebodys draws one of these and an account, which need not be its owner's.
func (m *crowd) somebodys(t *rapid.T, things map[uuid.UUID]uuid.UUID) (thing, who uuid.UUID, owns bool) {
	if len(things) == 0 {
		t.Skip("there is none yet")
	}
	ids := slices.SortedFunc(maps.Keys(things), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	thing, who = rapid.SampledFrom(ids).Draw(t, "thing"), rapid.SampledFrom(m.accounts).Draw(t, "who")
	return thing, who, things[thing] == who
}

// requireJudged requires that a stranger is told that there is nothing, and that a refusal changes nothing.
func (m *crowd) requireJudged(t *rapid.T, before eventstore.Position, owns bool, err error) {
	if !owns {
		require.True(t, domain.IsCode(err, domain.NotFound), "a stranger must find nothing, but got: %v", err)
	}
	if err != nil {
		require.Equal(t, before, m.head(), "a refused command has changed the log: %v", err)
	}
}

func (m *crowd) createFunction(t *rapid.T) {
	owner := rapid.SampledFrom(m.accounts).Draw(t, "owner")
	runtime := rapid.SampledFrom([]string{"nodejs", "nodejs", "ruby"}).Draw(t, "runtime")
	before := m.head()
	id, position, err := m.CreateFunction.Handle(context.Background(), anonymous, domain.CreateFunction{
		AccountID: owner, Name: "hello", Runtime: runtime, Code: "1",
	})
	if err != nil {
		require.Equal(t, before, m.head())
		return
	}
	require.Equal(t, m.head(), position)
	m.functions[id] = owner
}

func (m *crowd) updateFunction(t *rapid.T) {
	id, who, owns := m.somebodys(t, m.functions)
	before := m.head()
	status := rapid.SampledFrom([]domain.FunctionStatus{domain.FunctionActive, domain.FunctionInactive, "broken"}).Draw(t, "status")
	_, err := m.UpdateFunction.Handle(context.Background(), anonymous, domain.UpdateFunction{
		FunctionID: id, AccountID: who, Changes: domain.FunctionChanges{Status: &status},
	})
	m.requireJudged(t, before, owns, err)
}

func (m *crowd) deleteFunction(t *rapid.T) {
	id, who, owns := m.somebodys(t, m.functions)
	before := m.head()
	_, err := m.DeleteFunction.Handle(context.Background(), anonymous, domain.DeleteFunction{FunctionID: id, AccountID: who})
	m.requireJudged(t, before, owns, err)
}

func (m *crowd) requestExecution(t *rapid.T) {
	function, who, owns := m.somebodys(t, m.functions)
	before := m.head()
	id, _, err := m.RequestExecution.Handle(context.Background(), anonymous, domain.RequestExecution{
		AccountID: who, FunctionID: function, Input: domaintest.JSON().Draw(t, "input"),
	})
	m.requireJudged(t, before, owns, err)
	if err == nil {
		m.executions[id] = who
	}
}

func (m *crowd) claimExecution(t *rapid.T) {
	id, _, _ := m.somebodys(t, m.executions)
	before := m.head()
	attempt, err := m.ClaimExecution.Handle(context.Background(), id, rapid.SampledFrom(m.workers).Draw(t, "worker"))
	m.requireJudged(t, before, true, err)
	if err == nil {
		require.Equal(t, attempt.Execution.FunctionVersion, attempt.Function.Version, "it runs what it was requested for")
		m.attempts = append(m.attempts, attempt)
	}
}

func (m *crowd) reportExecution(t *rapid.T) {
	if len(m.attempts) == 0 {
		t.Skip("nothing runs")
	}
	attempt := rapid.SampledFrom(m.attempts).Draw(t, "attempt")
	var end domain.Event
	if rapid.Bool().Draw(t, "ends") {
		end = domain.ExecutionCompleted{Output: json.RawMessage("1")}
	}
	before := m.head()
	err := m.ReportExecution.Handle(context.Background(), attempt, []domain.ExecutionLogLine{{Stream: domain.Stdout, Text: "hi"}}, end)
	m.requireJudged(t, before, true, err)
}

func (m *crowd) abandonExecution(t *rapid.T) {
	id, _, _ := m.somebodys(t, m.executions)
	gone := rapid.SampledFrom(append([]uuid.UUID{uuid.Nil}, m.workers...)).Draw(t, "gone")
	err := m.AbandonExecution.Handle(context.Background(), id, domain.AbandonExecution{WorkerID: gone, Failure: domain.ExecutionFailed{Error: "lost"}})
	require.NoError(t, err)
}

func (m *crowd) createKey(t *rapid.T) {
	owner := rapid.SampledFrom(m.accounts).Draw(t, "owner")
	key, err := m.CreateKey.Handle(context.Background(), anonymous, owner, "ci", nil)
	require.NoError(t, err)
	m.keys[key.ID] = owner
}

func (m *crowd) deleteKey(t *rapid.T) {
	id, who, owns := m.somebodys(t, m.keys)
	before := m.head()
	_, err := m.DeleteKey.Handle(context.Background(), anonymous, domain.DeleteKey{KeyID: id, AccountID: who})
	m.requireJudged(t, before, owns, err)
}

func (m *crowd) refreshSession(t *rapid.T) {
	token := rapid.SampledFrom(m.tokens).Draw(t, "token")
	login, err := m.RefreshSession.ByToken(context.Background(), anonymous, token)
	if err != nil {
		require.Equal(t, domain.ErrSessionEnded, err)
		return
	}
	m.tokens = append(m.tokens, login.RefreshToken)
}

// requireOrder checks the log as a whole.
func (m *crowd) requireOrder(t *rapid.T) {
	owners, ends, claims, revoked := map[uuid.UUID]uuid.UUID{}, map[uuid.UUID]int{}, map[uuid.UUID]int{}, map[uuid.UUID]bool{}
	for e, err := range m.log.ReadAll(context.Background(), 0) {
		require.NoError(t, err)
		if owner, known := owners[e.StreamID]; known {
			require.Equal(t, owner, e.AccountID, "%s stands in the history of another account", e.Type)
		}
		owners[e.StreamID] = e.AccountID
		require.Zero(t, ends[e.StreamID], "%s stands behind the end of its execution", e.Type)
		require.False(t, revoked[e.StreamID], "%s stands behind the end of its session", e.Type)
		switch e.Type {
		case "execution.started":
			claims[e.StreamID]++
			require.Equal(t, 1, claims[e.StreamID], "claimed twice")
		case "execution.completed", "execution.failed":
			ends[e.StreamID]++
		case "session.revoked":
			revoked[e.StreamID] = true
		}
	}
	for id, owner := range m.executions {
		require.Equal(t, owner, owners[id])
	}
}

// The newest version is what a later request has left in the cache.
func TestAnExecutionThatWaitedRunsTheVersionThatWasAsked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	owner, code := uuid.New(), "v2"
	id := f.function(t, owner)
	waiting := f.request(t, owner, id)
	_, err := f.UpdateFunction.Handle(f.ctx, anonymous, domain.UpdateFunction{
		FunctionID: id, AccountID: owner, Changes: domain.FunctionChanges{Code: &code},
	})
	require.NoError(t, err)
	f.request(t, owner, id)
	attempt, err := f.ClaimExecution.Handle(f.ctx, waiting, uuid.New())
	require.NoError(t, err)
	require.Equal(t, "v1", attempt.Function.Code)
}

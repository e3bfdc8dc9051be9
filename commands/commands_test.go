package commands_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
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

type fixture struct {
	*commands.Handlers
	store *memory.Store
	ctx   context.Context
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	store := memory.New()
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	return fixture{commands.New(store, store, storetest.Codec(store), passwords, []string{"nodejs", "python"}), store, context.Background()}
}

// types lists the types of all events in the log.
func (f fixture) types(t *testing.T) []string {
	t.Helper()
	var types []string
	for e, err := range f.store.ReadAll(f.ctx, 0) {
		require.NoError(t, err)
		types = append(types, e.Type)
	}
	return types
}

var anonymous = commands.Origin{Actor: domain.Actor{Kind: domain.ActorSystem}, RequestID: uuid.New()}

func register(email string) domain.RegisterAccount {
	return domain.RegisterAccount{Email: email, Password: "correct horse", Name: "Ada"}
}

func (f fixture) function(t *testing.T, owner uuid.UUID) uuid.UUID {
	t.Helper()
	id, _, err := f.CreateFunction.Handle(f.ctx, anonymous, domain.CreateFunction{AccountID: owner, Name: "hello", Runtime: "nodejs", Code: "v1"})
	require.NoError(t, err)
	return id
}

func (f fixture) request(t *testing.T, owner, function uuid.UUID) uuid.UUID {
	t.Helper()
	id, _, err := f.RequestExecution.Handle(f.ctx, anonymous, domain.RequestExecution{
		AccountID: owner, FunctionID: function, Input: json.RawMessage(`{"n":1}`),
	})
	require.NoError(t, err)
	return id
}

func TestRegistrationIsOneAppendAndLeavesNoSecretInTheLog(t *testing.T) {
	f := newFixture(t)
	login, err := f.RegisterAccount.Handle(f.ctx, anonymous, register("ada@example.com"))
	require.NoError(t, err)
	require.Equal(t, []string{"email.reserved", "account.registered", "session.started"}, f.types(t))
	require.Equal(t, eventstore.Position(3), login.Position)
	for e := range f.store.ReadAll(f.ctx, 0) {
		require.NotContains(t, string(e.Data), "correct horse")
		require.NotContains(t, string(e.Data), "$2a$", "bcrypt hashes belong into the vault")
		require.NotContains(t, string(e.Data), strings.TrimPrefix(login.RefreshToken, "vrr_"))
		require.Equal(t, login.Account.ID, e.AccountID)
		require.Equal(t, anonymous.RequestID, e.CorrelationID)
	}
}

func TestOneOfManyRegistrationsForAnAddressWins(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won, refused := 0, 0
	for i := range 20 {
		wg.Go(func() {
			email := "ada@example.com"
			if i%2 == 0 {
				email = "ADA@Example.com"
			}
			_, err := f.RegisterAccount.Handle(f.ctx, anonymous, register(email))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if domain.IsCode(err, domain.Invalid) {
				refused++
			} else {
				t.Errorf("register: %v", err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, []int{1, 19}, []int{won, refused})
	require.Len(t, f.types(t), 3)
}

func TestALoginNeedsTheAddressAndThePassword(t *testing.T) {
	f := newFixture(t)
	registered, err := f.RegisterAccount.Handle(f.ctx, anonymous, register("ada@example.com"))
	require.NoError(t, err)
	login, err := f.LogIn.Handle(f.ctx, anonymous, domain.LogIn{Email: "ADA@example.com", Password: "correct horse"})
	require.NoError(t, err)
	require.Equal(t, registered.Account, login.Account)
	require.NotEqual(t, registered.SessionID, login.SessionID)
	for _, wrong := range [][2]string{
		{"ada@example.com", "wrong horse"}, {"eve@example.com", "correct horse"}, {"ada@example.com", strings.Repeat("x", 5000)},
	} {
		_, err := f.LogIn.Handle(f.ctx, anonymous, domain.LogIn{Email: wrong[0], Password: wrong[1]})
		require.Equal(t, commands.ErrWrongLogin, err)
	}
}

func TestPasswordsBeyondBcryptsLimitCountInFull(t *testing.T) {
	f := newFixture(t)
	long := register("ada@example.com")
	long.Password = strings.Repeat("x", 100) + "\x00end"
	_, err := f.RegisterAccount.Handle(f.ctx, anonymous, long)
	require.NoError(t, err)
	_, err = f.LogIn.Handle(f.ctx, anonymous, domain.LogIn{Email: long.Email, Password: strings.Repeat("x", 100)})
	require.Equal(t, commands.ErrWrongLogin, err)
	_, err = f.LogIn.Handle(f.ctx, anonymous, domain.LogIn{Email: long.Email, Password: long.Password})
	require.NoError(t, err)
}

func TestAReusedRefreshTokenRevokesItsFamily(t *testing.T) {
	f := newFixture(t)
	first, err := f.RegisterAccount.Handle(f.ctx, anonymous, register("ada@example.com"))
	require.NoError(t, err)
	second, err := f.RefreshSession.ByToken(f.ctx, anonymous, first.RefreshToken)
	require.NoError(t, err)
	third, err := f.RefreshSession.BySession(f.ctx, anonymous, first.SessionID)
	require.NoError(t, err)
	require.Equal(t, first.Account, third.Account)

	_, err = f.RefreshSession.ByToken(f.ctx, anonymous, second.RefreshToken)
	require.Equal(t, domain.ErrSessionEnded, err)
	_, err = f.RefreshSession.ByToken(f.ctx, anonymous, third.RefreshToken)
	require.Equal(t, domain.ErrSessionEnded, err, "the newest token of the family is gone as well")
	_, err = f.RefreshSession.BySession(f.ctx, anonymous, first.SessionID)
	require.Equal(t, domain.ErrSessionEnded, err)
	types := f.types(t)
	require.Equal(t, "session.revoked", types[len(types)-1])
}

func TestMalformedRefreshTokensAreRefused(t *testing.T) {
	f := newFixture(t)
	for _, token := range []string{"", "vrr_", "vrr_AAAA", "vr_00", strings.Repeat("A", 70), "vrr_" + strings.Repeat("A", 64)} {
		_, err := f.RefreshSession.ByToken(f.ctx, anonymous, token)
		require.Equal(t, domain.ErrSessionEnded, err, token)
	}
	require.Empty(t, f.types(t))
}

func TestConcurrentChangesAllHappenOrAreRefused(t *testing.T) {
	f := newFixture(t)
	owner := uuid.New()
	id := f.function(t, owner)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			name := fmt.Sprint("name ", i)
			_, err := f.UpdateFunction.Handle(f.ctx, anonymous, domain.UpdateFunction{
				FunctionID: id, AccountID: owner, Changes: domain.FunctionChanges{Name: &name},
			})
			if err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	wg.Wait()
	require.Len(t, f.types(t), 11)
}

func TestAnAcceptedExecutionRunsTheVersionThatWasAsked(t *testing.T) {
	f := newFixture(t)
	owner := uuid.New()
	id := f.function(t, owner)
	execution := f.request(t, owner, id)
	code := "v2"
	_, err := f.UpdateFunction.Handle(f.ctx, anonymous, domain.UpdateFunction{
		FunctionID: id, AccountID: owner, Changes: domain.FunctionChanges{Code: &code},
	})
	require.NoError(t, err)
	_, err = f.DeleteFunction.Handle(f.ctx, anonymous, domain.DeleteFunction{FunctionID: id, AccountID: owner})
	require.NoError(t, err)

	attempt, err := f.ClaimExecution.Handle(f.ctx, execution, uuid.New())
	require.NoError(t, err)
	require.Equal(t, "v1", attempt.Function.Code)
	require.False(t, attempt.Function.Deleted)
	require.JSONEq(t, `{"n":1}`, string(attempt.Execution.Input))
}

func TestOneOfManyWorkersGetsAnExecution(t *testing.T) {
	f := newFixture(t)
	owner := uuid.New()
	execution := f.request(t, owner, f.function(t, owner))
	var wg sync.WaitGroup
	var mu sync.Mutex
	claims := 0
	for range 16 {
		wg.Go(func() {
			_, err := f.ClaimExecution.Handle(f.ctx, execution, uuid.New())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				claims++
			} else if !domain.IsCode(err, domain.Conflict) {
				t.Errorf("claim: %v", err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, claims)
}

func TestAWorkerThatLostItsExecutionCannotWriteAnyMore(t *testing.T) {
	f := newFixture(t)
	owner, worker := uuid.New(), uuid.New()
	execution := f.request(t, owner, f.function(t, owner))
	attempt, err := f.ClaimExecution.Handle(f.ctx, execution, worker)
	require.NoError(t, err)
	line := []domain.ExecutionLogLine{{Stream: domain.Stdout, Text: "hi"}}
	require.NoError(t, f.ReportExecution.Handle(f.ctx, attempt, line, nil))

	lost := domain.AbandonExecution{WorkerID: worker, Failure: domain.ExecutionFailed{Error: "lost", ErrorType: domain.ErrorWorkerLost}}
	require.NoError(t, f.AbandonExecution.Handle(f.ctx, execution, lost))
	require.NoError(t, f.AbandonExecution.Handle(f.ctx, execution, lost), "abandoning twice changes nothing")
	before := f.types(t)
	require.Equal(t, domain.ErrNotRunning, f.ReportExecution.Handle(f.ctx, attempt, line, domain.ExecutionCompleted{Output: json.RawMessage("1")}))
	require.Equal(t, before, f.types(t))
	require.Equal(t, "execution.failed", before[len(before)-1])
}

func TestAReportIsOneAppend(t *testing.T) {
	f := newFixture(t)
	owner := uuid.New()
	execution := f.request(t, owner, f.function(t, owner))
	attempt, err := f.ClaimExecution.Handle(f.ctx, execution, uuid.New())
	require.NoError(t, err)
	lines := []domain.ExecutionLogLine{{Stream: domain.Stdout, Text: "a"}, {Stream: domain.Stderr, Text: "b"}}
	require.NoError(t, f.ReportExecution.Handle(f.ctx, attempt, lines, domain.ExecutionCompleted{Output: json.RawMessage("1")}))
	require.Equal(t, domain.ExecutionSuccess, attempt.Execution.Status)
	require.Equal(t, []string{
		"function.created", "execution.requested", "execution.started", "execution.log_line", "execution.log_line", "execution.completed",
	}, f.types(t))
}

func TestAKeyIsShownOnceAndStoredAsItsHash(t *testing.T) {
	f := newFixture(t)
	key, err := f.CreateKey.Handle(f.ctx, anonymous, uuid.New(), "ci", nil)
	require.NoError(t, err)
	require.Regexp(t, "^vr_[0-9a-f]{64}$", key.Key)
	require.Equal(t, key.Key[:12], key.Prefix)
	for e := range f.store.ReadAll(f.ctx, 0) {
		require.NotContains(t, string(e.Data), key.Key)
	}
	require.Len(t, commands.HashKey(key.Key), 32)
}

// counted counts the events that commands read from the log.
type counted struct {
	eventstore.Store
	events atomic.Int64
}

func (c *counted) ReadStream(ctx context.Context, id uuid.UUID, after int) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range c.Store.ReadStream(ctx, id, after) {
			c.events.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestWhatAnExecutionReadsDoesNotGrowWithItsFunctionsHistory(t *testing.T) {
	store := memory.New()
	log := &counted{Store: store}
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	f := fixture{commands.New(log, store, storetest.Codec(store), passwords, []string{"nodejs"}), store, t.Context()}
	owner := uuid.New()
	id := f.function(t, owner)
	change := func(code string) {
		_, err := f.UpdateFunction.Handle(f.ctx, anonymous, domain.UpdateFunction{
			FunctionID: id, AccountID: owner, Changes: domain.FunctionChanges{Code: &code},
		})
		require.NoError(t, err)
	}
	for i := range 100 {
		change(fmt.Sprint("code ", i))
	}
	_, err = f.ClaimExecution.Handle(f.ctx, f.request(t, owner, id), uuid.New())
	require.NoError(t, err)

	log.events.Store(0)
	execution := f.request(t, owner, id)
	attempt, err := f.ClaimExecution.Handle(f.ctx, execution, uuid.New())
	require.NoError(t, err)
	require.Equal(t, "code 99", attempt.Function.Code)
	require.LessOrEqual(t, log.events.Load(), int64(1), "the execution's own first event")

	before := f.request(t, owner, id)
	change("changed")
	log.events.Store(0)
	after, err := f.ClaimExecution.Handle(f.ctx, f.request(t, owner, id), uuid.New())
	require.NoError(t, err)
	require.Equal(t, "changed", after.Function.Code)
	old, err := f.ClaimExecution.Handle(f.ctx, before, uuid.New())
	require.NoError(t, err)
	require.Equal(t, "code 99", old.Function.Code, "an execution runs the version that was asked for")
	require.LessOrEqual(t, log.events.Load(), int64(3))
}

func TestNotingTheUseOfAKeyReadsNothing(t *testing.T) {
	store := memory.New()
	log := &counted{Store: store}
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	f := commands.New(log, store, storetest.Codec(store), passwords, nil)
	owner := uuid.New()
	key, err := f.CreateKey.Handle(t.Context(), anonymous, owner, "ci", nil)
	require.NoError(t, err)
	log.events.Store(0)
	for range 50 {
		require.NoError(t, f.NoteKeyUse.Handle(t.Context(), commands.KeyUse{AccountID: owner, KeyID: key.ID, At: time.Now()}))
	}
	require.Zero(t, log.events.Load())
	_, err = f.DeleteKey.Handle(t.Context(), anonymous, domain.DeleteKey{KeyID: key.ID, AccountID: owner})
	require.NoError(t, err)
	require.Equal(t, int64(1), log.events.Load(), "the uses of a key do not make its deletion dear")
}

package commands_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
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

func (f fixture) register(t *testing.T, email string) commands.Login {
	t.Helper()
	login, err := f.RegisterAccount.Handle(f.ctx, anonymous, register(email))
	require.NoError(t, err)
	return login
}

func (f fixture) erase(account uuid.UUID) error {
	_, err := f.EraseAccount.Handle(f.ctx, anonymous, domain.EraseAccount{AccountID: account})
	return err
}

func TestAnErasureIsOneAppendAndFreesTheAddress(t *testing.T) {
	f := newFixture(t)
	ada := f.register(t, "ada@example.com").Account.ID
	other := f.register(t, "bob@example.com")
	position, err := f.EraseAccount.Handle(f.ctx, anonymous, domain.EraseAccount{AccountID: ada})
	require.NoError(t, err)
	require.Equal(t, []string{"account.erased", "email.released"}, f.types(t)[6:])
	require.Equal(t, eventstore.Position(8), position)

	_, err = f.store.Get(f.ctx, ada, "password")
	require.ErrorIs(t, err, eventstore.ErrNoSecret)
	_, err = f.store.Get(f.ctx, ada, eventstore.DataKeySecret)
	require.ErrorIs(t, err, eventstore.ErrNoSecret)
	require.ErrorIs(t, f.erase(ada), domain.ErrAccountErased)

	again := f.register(t, "ADA@example.com")
	require.NotEqual(t, ada, again.Account.ID)
	login, err := f.LogIn.Handle(f.ctx, anonymous, domain.LogIn{Email: "bob@example.com", Password: "correct horse"})
	require.NoError(t, err)
	require.Equal(t, other.Account, login.Account, "another account is untouched")
}

func TestAnErasureMayBeConfirmedByThePassword(t *testing.T) {
	f := newFixture(t)
	account := f.register(t, "ada@example.com").Account.ID
	wrong, right := "battery staple", "correct horse"
	_, err := f.EraseAccount.Handle(f.ctx, anonymous, domain.EraseAccount{AccountID: account, Password: &wrong})
	require.True(t, domain.IsCode(err, domain.Invalid), "%v", err)
	require.Len(t, f.types(t), 3, "nothing was erased")
	_, err = f.EraseAccount.Handle(f.ctx, anonymous, domain.EraseAccount{AccountID: account, Password: &right})
	require.NoError(t, err)
	_, err = f.EraseAccount.Handle(f.ctx, anonymous, domain.EraseAccount{AccountID: account, Password: &right})
	require.ErrorIs(t, err, domain.ErrAccountErased)
}

func TestOneOfManyErasuresHappensAndItsAddressIsGivenAwayOnce(t *testing.T) {
	f := newFixture(t)
	account := f.register(t, "ada@example.com").Account.ID
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() { errs[i] = f.erase(account) })
	}
	wg.Wait()
	erased := 0
	for _, err := range errs {
		if err == nil {
			erased++
			continue
		}
		require.ErrorIs(t, err, domain.ErrAccountErased)
	}
	require.Equal(t, 1, erased)
	require.Len(t, f.types(t), 5)
}

// Every command of an erased account is refused as for somebody who is not known, also where its state was remembered.
func TestNothingHappensForAnErasedAccountAnyMore(t *testing.T) {
	f := newFixture(t)
	login := f.register(t, "ada@example.com")
	account := login.Account.ID
	function := f.function(t, account)
	pending := f.request(t, account, function)
	running := f.request(t, account, function)
	attempt, err := f.ClaimExecution.Handle(f.ctx, running, uuid.New())
	require.NoError(t, err)
	require.NoError(t, f.erase(account))
	head := len(f.types(t))

	_, _, createErr := f.CreateFunction.Handle(f.ctx, anonymous, domain.CreateFunction{AccountID: account, Name: "f", Runtime: "nodejs", Code: "c"})
	_, _, requestErr := f.RequestExecution.Handle(f.ctx, anonymous, domain.RequestExecution{AccountID: account, FunctionID: function})
	_, keyErr := f.CreateKey.Handle(f.ctx, anonymous, account, "ci", nil)
	useErr := f.NoteKeyUse.Handle(f.ctx, commands.KeyUse{AccountID: account, KeyID: uuid.New(), At: time.Now()})
	for name, err := range map[string]error{"create": createErr, "request": requestErr, "key": keyErr, "key use": useErr} {
		require.ErrorIs(t, err, domain.ErrAccountErased, name)
	}
	name := "new"
	_, err = f.UpdateFunction.Handle(f.ctx, anonymous, domain.UpdateFunction{
		AccountID: account, FunctionID: function, Changes: domain.FunctionChanges{Name: &name},
	})
	require.ErrorIs(t, err, domain.ErrAccountErased)
	_, err = f.RefreshSession.ByToken(f.ctx, anonymous, login.RefreshToken)
	require.ErrorIs(t, err, domain.ErrSessionEnded)
	_, err = f.RefreshSession.BySession(f.ctx, anonymous, login.SessionID)
	require.ErrorIs(t, err, domain.ErrSessionEnded)
	_, err = f.LogIn.Handle(f.ctx, anonymous, domain.LogIn{Email: "ada@example.com", Password: "correct horse"})
	require.ErrorIs(t, err, commands.ErrWrongLogin)

	_, err = f.ClaimExecution.Handle(f.ctx, pending, uuid.New())
	require.ErrorIs(t, err, domain.ErrNotClaimable)
	err = f.ReportExecution.Handle(f.ctx, attempt, nil, domain.ExecutionCompleted{Output: []byte("1")})
	require.ErrorIs(t, err, domain.ErrNotRunning)
	failure := domain.ExecutionFailed{Error: "lost", ErrorType: domain.ErrorWorkerLost}
	for _, id := range []uuid.UUID{pending, running} {
		require.NoError(t, f.AbandonExecution.Handle(f.ctx, id, domain.AbandonExecution{Failure: failure}))
	}
	require.Len(t, f.types(t), head, "nothing was appended")
}

// erasing is a log where an account is erased right after one of its executions was read so many times.
type erasing struct {
	*memory.Store
	execution uuid.UUID
	reads     int
	erase     func()
}

func (s *erasing) ReadStream(ctx context.Context, streamID uuid.UUID, afterVersion int) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		s.Store.ReadStream(ctx, streamID, afterVersion)(yield)
		if streamID != s.execution {
			return
		}
		if s.reads--; s.reads == 0 {
			s.erase()
		}
	}
}

// What a command has read does not tell it that the account is gone by now; what it wants to write does.
func TestACommandThatIsUnderWayAtAnErasureWritesNothing(t *testing.T) {
	for name, command := range map[string]struct {
		reads  int
		handle func(fixture, uuid.UUID) error
	}{
		"claim": {1, func(f fixture, execution uuid.UUID) error {
			_, err := f.ClaimExecution.Handle(f.ctx, execution, uuid.New())
			if errors.Is(err, domain.ErrNotClaimable) {
				return nil
			}
			return fmt.Errorf("not refused: %w", err)
		}},
		"abandon": {2, func(f fixture, execution uuid.UUID) error {
			return f.AbandonExecution.Handle(f.ctx, execution, domain.AbandonExecution{})
		}},
	} {
		store := &erasing{Store: memory.New(), reads: command.reads}
		passwords, err := commands.NewPasswords(bcrypt.MinCost)
		require.NoError(t, err)
		f := fixture{commands.New(store, store, storetest.Codec(store), passwords, []string{"nodejs"}), store.Store, t.Context()}
		account := f.register(t, "ada@example.com").Account.ID
		store.execution = f.request(t, account, f.function(t, account))
		store.erase = func() { require.NoError(t, f.erase(account)) }
		require.NoError(t, command.handle(f, store.execution), name)
		types := f.types(t)
		require.Equal(t, []string{"account.erased", "email.released"}, types[len(types)-2:], name)
	}
}

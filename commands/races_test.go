package commands_test

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

// meeting is a log in which the readers of a stream wait for each other: all decide on the same state then.
type meeting struct {
	*memory.Store
	stream  uuid.UUID // nil for any
	size    int       // 0 for nobody waits
	rounds  []sync.WaitGroup
	readers atomic.Int64
}

// of makes as many readers as this meet at the stream, as often as this.
func (m *meeting) of(size int, stream uuid.UUID, rounds int) {
	m.size, m.stream, m.rounds = size, stream, make([]sync.WaitGroup, rounds)
	for i := range m.rounds {
		m.rounds[i].Add(size)
	}
}

func (m *meeting) ReadStream(ctx context.Context, id uuid.UUID, after int) iter.Seq2[eventstore.Event, error] {
	events := m.Store.ReadStream(ctx, id, after)
	if m.size == 0 || m.stream != uuid.Nil && id != m.stream {
		return events
	}
	if round := int(m.readers.Add(1)-1) / m.size; round < len(m.rounds) {
		m.rounds[round].Done()
		m.rounds[round].Wait()
	}
	return events
}

func newMeeting(t *testing.T) (*meeting, *commands.Handlers) {
	t.Helper()
	log := &meeting{Store: memory.New()}
	passwords, err := commands.NewPasswords(bcrypt.MinCost)
	require.NoError(t, err)
	return log, commands.New(log, log, storetest.Codec(log), passwords, []string{"nodejs"})
}

// atOnce runs n calls at the same time and returns how many had no error.
func atOnce(n int, call func() error) int64 {
	var all sync.WaitGroup
	var succeeded atomic.Int64
	for range n {
		all.Go(func() {
			if call() == nil {
				succeeded.Add(1)
			}
		})
	}
	all.Wait()
	return succeeded.Load()
}

func TestARefreshTokenPresentedManyTimesAtOnceBuysOneSuccessor(t *testing.T) {
	t.Parallel()
	log, handlers := newMeeting(t)
	login, err := handlers.RegisterAccount.Handle(t.Context(), anonymous, register("ada@example.com"))
	require.NoError(t, err)
	log.of(4, login.SessionID, 2) // it is read for its account first
	require.Equal(t, int64(1), atOnce(4, func() error {
		_, err := handlers.RefreshSession.ByToken(t.Context(), anonymous, login.RefreshToken)
		return err
	}))
	_, err = handlers.RefreshSession.BySession(t.Context(), anonymous, login.SessionID)
	require.Equal(t, domain.ErrSessionEnded, err, "the others have ended the family")
}

func TestAnExecutionClaimedManyTimesAtOnceIsStartedOnce(t *testing.T) {
	t.Parallel()
	log, handlers := newMeeting(t)
	f := fixture{handlers, log.Store, t.Context()}
	owner := uuid.New()
	execution := f.request(t, owner, f.function(t, owner))
	log.of(4, execution, 1)
	require.Equal(t, int64(1), atOnce(4, func() error {
		_, err := handlers.ClaimExecution.Handle(t.Context(), execution, uuid.New())
		return err
	}))
	require.Equal(t, []string{"function.created", "execution.requested", "execution.started"}, f.types(t))
}

func TestAFunctionDeletedManyTimesAtOnceIsDeletedOnce(t *testing.T) {
	t.Parallel()
	log, handlers := newMeeting(t)
	f := fixture{handlers, log.Store, t.Context()}
	owner := uuid.New()
	id := f.function(t, owner)
	log.of(4, id, 1)
	require.Equal(t, int64(1), atOnce(4, func() error {
		_, err := handlers.DeleteFunction.Handle(t.Context(), anonymous, domain.DeleteFunction{FunctionID: id, AccountID: owner})
		return err
	}))
	require.Equal(t, []string{"function.created", "function.deleted"}, f.types(t))
}

func TestAChangeThatComesSecondIsDecidedAgain(t *testing.T) {
	t.Parallel()
	log, handlers := newMeeting(t)
	f := fixture{handlers, log.Store, t.Context()}
	owner := uuid.New()
	id := f.function(t, owner)
	log.of(4, id, 1)
	require.Equal(t, int64(4), atOnce(4, func() error {
		name := uuid.NewString()
		_, err := handlers.UpdateFunction.Handle(t.Context(), anonymous, domain.UpdateFunction{
			FunctionID: id, AccountID: owner, Changes: domain.FunctionChanges{Name: &name},
		})
		return err
	}))
	require.Len(t, f.types(t), 5)
}

func TestAnAddressRegisteredManyTimesAtOnceHasOneAccount(t *testing.T) {
	t.Parallel()
	log, handlers := newMeeting(t)
	log.of(4, uuid.Nil, 1)
	require.Equal(t, int64(1), atOnce(4, func() error {
		_, err := handlers.RegisterAccount.Handle(t.Context(), anonymous, register("ada@example.com"))
		return err
	}))
	f := fixture{handlers, log.Store, t.Context()}
	require.Equal(t, []string{"email.reserved", "account.registered", "session.started"}, f.types(t))
}

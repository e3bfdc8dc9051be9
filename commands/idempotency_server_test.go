package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/voltrun/voltrun/commands"
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

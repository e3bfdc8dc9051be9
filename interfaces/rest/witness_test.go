package rest_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// world is what several witnesses have made.
type world struct{ functions, executions []uuid.UUID }

// witness is somebody who does things at random.
type witness struct {
	client
	server  *resttest.Server
	random  *rand.Rand
	world   *world
	account uuid.UUID
	keys    []uuid.UUID
	running []*domain.Attempt
}

func newWitness(t *testing.T, s *resttest.Server, random *rand.Rand, in *world) *witness {
	c, who := register(t, s)
	return &witness{
		// All requests have the same id, so that refusals are the same as well.
		client: c.with("X-Request-Id", "01900000-0000-7000-8000-000000000001"), server: s, random: random, world: in,
		account: uuid.MustParse(who["user"].(object)["id"].(string)),
	}
}

func (w *witness) origin() commands.Origin {
	return commands.Origin{Actor: domain.Actor{Kind: domain.ActorUser, ID: w.account}, RequestID: uuid.New()}
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// act does one thing. What cannot be done, such as a change of somebody else's function, is refused and leaves no trace.
func (w *witness) act() {
	w.t.Helper()
	acts := []func() error{w.makeFunction, w.makeKey}
	if len(w.world.functions) > 0 {
		acts = append(acts, w.changeFunction, w.deleteFunction, w.request, w.request, w.request, w.request)
	}
	if len(w.world.executions) > 0 {
		acts = append(acts, w.claim, w.claim, w.claim, w.abandon)
	}
	if len(w.running) > 0 {
		acts = append(acts, w.report, w.report, w.report, w.report)
	}
	if len(w.keys) > 0 {
		acts = append(acts, w.useKey, w.useKey, w.deleteKey)
	}
	if err := pick(w.random, acts)(); err != nil {
		var refusal *domain.Error
		require.ErrorAs(w.t, err, &refusal)
	}
}

func (w *witness) makeFunction() error {
	id, _, err := w.server.Commands.CreateFunction.Handle(w.t.Context(), w.origin(), domain.CreateFunction{
		AccountID: w.account, Name: fmt.Sprint("f", w.random.IntN(100)), Runtime: "nodejs", Code: "exports.handler = async () => '<é>'",
	})
	w.world.functions = append(w.world.functions, id)
	return err
}

func (w *witness) changeFunction() error {
	name, status := fmt.Sprint("g", w.random.IntN(100)), pick(w.random, []domain.FunctionStatus{domain.FunctionActive, domain.FunctionInactive})
	_, err := w.server.Commands.UpdateFunction.Handle(w.t.Context(), w.origin(), domain.UpdateFunction{
		FunctionID: pick(w.random, w.world.functions), AccountID: w.account, Changes: domain.FunctionChanges{Name: &name, Status: &status},
	})
	return err
}

func (w *witness) deleteFunction() error {
	_, err := w.server.Commands.DeleteFunction.Handle(w.t.Context(), w.origin(), domain.DeleteFunction{
		FunctionID: pick(w.random, w.world.functions), AccountID: w.account,
	})
	return err
}

func (w *witness) request() error {
	id, _, err := w.server.Commands.RequestExecution.Handle(w.t.Context(), w.origin(), domain.RequestExecution{
		AccountID: w.account, FunctionID: pick(w.random, w.world.functions), Input: json.RawMessage(`{"text":"\u0000 <b>"}`),
	})
	if err == nil {
		w.world.executions = append(w.world.executions, id)
	}
	return err
}

func (w *witness) claim() error {
	attempt, err := w.server.Commands.ClaimExecution.Handle(w.t.Context(), pick(w.random, w.world.executions), uuid.New())
	if err == nil {
		w.running = append(w.running, attempt)
	}
	return err
}

func (w *witness) abandon() error {
	return w.server.Commands.AbandonExecution.Handle(w.t.Context(), pick(w.random, w.world.executions), domain.AbandonExecution{
		Failure: domain.ExecutionFailed{Error: "nobody ran it", ErrorType: domain.ErrorInternal},
	})
}

// report prints some lines, and half of the time ends the execution.
func (w *witness) report() error {
	var lines []domain.ExecutionLogLine
	for n := range w.random.IntN(4) {
		lines = append(lines, domain.ExecutionLogLine{Stream: domain.Stdout, Text: fmt.Sprint("line ", n), At: time.Now().UTC()})
	}
	end := pick(w.random, []domain.Event{
		nil, nil, domain.ExecutionCompleted{Output: json.RawMessage(`"\u0000"`), DurationMS: 7, MemoryMB: 30},
		domain.ExecutionFailed{Error: "boom", ErrorType: "TypeError", Stack: "at index.js:1:1", DurationMS: 7},
	})
	if end == nil && lines == nil {
		return nil
	}
	return w.server.Commands.ReportExecution.Handle(w.t.Context(), pick(w.random, w.running), lines, end)
}

func (w *witness) makeKey() error {
	key, err := w.server.Commands.CreateKey.Handle(w.t.Context(), w.origin(), w.account, "k", nil)
	w.keys = append(w.keys, key.ID)
	return err
}

func (w *witness) useKey() error {
	return w.server.Commands.NoteKeyUse.Handle(w.t.Context(), commands.KeyUse{
		AccountID: w.account, KeyID: pick(w.random, w.keys), Prefix: "vr_123456789", RequestID: uuid.New(), At: time.Now(),
	})
}

func (w *witness) deleteKey() error {
	_, err := w.server.Commands.DeleteKey.Handle(w.t.Context(), w.origin(), domain.DeleteKey{KeyID: pick(w.random, w.keys), AccountID: w.account})
	return err
}

package storetest

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
)

// judgement bounds how long a history is thought about. Correct ones take milliseconds.
const judgement = time.Minute

// Load is how concurrent clients use a log, in order to find out whether it is linearizable: whether each call looks as
// if it had happened at one moment between its start and its end.
type Load struct {
	Clients int
	Calls   int // of each client
	Streams int // that all clients contend for

	// Patience, when it is not zero, is how long a client waits for some of its appends at most. When it gives up, the
	// append may happen all the same, at any time later or never.
	Patience time.Duration
}

// Verdict counts what happened while a log was judged, so that a test can tell that it was about something.
type Verdict struct {
	Accepted, Conflicts, Unknown, Reads int
}

// Judge puts the load on stores that share one log, which has to be empty before, and returns an error when what the
// clients were answered has no explanation by a correct log, or when a call failed. Clients take the stores in turns.
func (l Load) Judge(stores ...eventstore.Store) (Verdict, error) {
	h := &history{began: time.Now()}
	streams := make([]uuid.UUID, l.Streams)
	for i := range streams {
		streams[i] = uuid.New()
	}
	var clients sync.WaitGroup
	for i := range l.Clients {
		c := &client{history: h, id: i, store: stores[i%len(stores)], load: l, streams: streams, versions: map[uuid.UUID]int{}}
		clients.Go(c.run)
	}
	clients.Wait()
	(&client{history: h, id: l.Clients, store: stores[0]}).readAll(0)
	return h.judge()
}

// history is what all clients asked and were answered.
type history struct {
	began time.Time

	mu         sync.Mutex
	operations []porcupine.Operation
	unknown    []porcupine.Operation // appends whose outcome the client does not know
	failure    error
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

func (h *history) add(op porcupine.Operation, answer any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.Output, op.Return = answer, h.now()
	h.operations = append(h.operations, op)
}

func (h *history) addUnknown(op porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unknown = append(h.unknown, op)
}

func (h *history) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = errors.Join(h.failure, err)
}

func (h *history) judge() (Verdict, error) {
	v := h.verdict()
	if h.failure != nil {
		return v, h.failure
	}
	result, info := porcupine.CheckOperationsVerbose(logModel, h.settled(), judgement)
	switch result {
	case porcupine.Ok:
		return v, nil
	case porcupine.Unknown:
		return v, fmt.Errorf("no explanation was found for %+v in %s", v, judgement)
	default:
		return v, &Violation{v, info}
	}
}

// Violation says that no order of the calls explains the answers.
type Violation struct {
	Verdict Verdict
	info    porcupine.LinearizationInfo
}

func (v *Violation) Error() string {
	return fmt.Sprintf("no order of the calls explains the answers: %+v", v.Verdict)
}

// RequireLinearizable judges a log as Judge does. The history of one that fails is drawn as a page for a browser, in the
// test's artifacts (go test -artifacts).
func (l Load) RequireLinearizable(t *testing.T, stores ...eventstore.Store) Verdict {
	t.Helper()
	verdict, err := l.Judge(stores...)
	var violation *Violation
	if errors.As(err, &violation) {
		page := filepath.Join(t.ArtifactDir(), "history.html")
		require.NoError(t, porcupine.VisualizePath(logModel, violation.info, page))
		t.Logf("the history stands in %s", page)
	}
	require.NoError(t, err)
	return verdict
}

func (h *history) verdict() Verdict {
	v := Verdict{Unknown: len(h.unknown)}
	for _, op := range h.operations {
		switch answer := op.Output.(type) {
		case appended:
			if answer.conflict != nil {
				v.Conflicts++
			} else {
				v.Accepted++
			}
		default:
			v.Reads++
		}
	}
	return v
}

// settled is the history with the unknown outcomes settled by the last call, which reads the whole log after all others
// have ended. An append that stands there happened, at some moment between its start and that read. One that does not
// happened after it or never, so that nobody saw it: it is left out.
func (h *history) settled() []porcupine.Operation {
	last := h.operations[len(h.operations)-1]
	settled := slices.Clone(h.operations)
	for _, op := range h.unknown {
		if position, found := find(last.Output.([]record), op.Input.(appendCall).writes); found {
			op.Output, op.Return = appended{position: position}, last.Return
			settled = append(settled, op)
		}
	}
	return settled
}

// find returns the position at which an append ends of which at least one event stands in the log.
func find(log []record, writes []eventstore.Write) (eventstore.Position, bool) {
	var events []eventstore.NewEvent
	for _, w := range writes {
		events = append(events, w.Events...)
	}
	for i, e := range events {
		if at := slices.IndexFunc(log, func(r record) bool { return r.id == e.ID }); at >= 0 {
			return log[at].position + eventstore.Position(len(events)-i-1), true
		}
	}
	return 0, false
}

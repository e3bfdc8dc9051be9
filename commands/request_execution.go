package commands

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// RequestExecutionHandler accepts executions.
type RequestExecutionHandler struct{ journal *journal }

// Place is room for one execution in this process.
type Place interface {
	WorkerID() uuid.UUID
	Run(attempt *domain.Attempt) // the execution, which was claimed
	Leave()                      // nothing was claimed
}

// Enter finds a place for a run of a function that begins now. Without one, and without an error, the execution waits until
// somebody claims it.
type Enter func(ctx context.Context, function domain.Function) (Place, error)

// wait is the Enter of those whose executions wait.
func wait(context.Context, domain.Function) (Place, error) { return nil, nil }

// Accepted is an execution that was accepted. It is durable and will end.
type Accepted struct {
	Attempt  *domain.Attempt
	Position eventstore.Position
}

// Handle accepts an execution, which waits to be claimed, and returns its new id.
func (h RequestExecutionHandler) Handle(ctx context.Context, origin Origin, cmd domain.RequestExecution) (uuid.UUID, eventstore.Position, error) {
	accepted, err := h.Begin(ctx, origin, cmd, wait)
	if err != nil {
		return uuid.Nil, 0, err
	}
	return accepted.Attempt.Execution.ID, accepted.Position, nil
}

// Begin accepts an execution. It fills in the command's ExecutionID and Function. With a place, the execution is claimed in
// the same append, and runs when Begin returns. Otherwise it waits.
//
// The function is the newest one at the moment of the append: that depends on the function's version, which costs no look
// into the log before.
func (h RequestExecutionHandler) Begin(ctx context.Context, origin Origin, cmd domain.RequestExecution, enter Enter) (Accepted, error) {
	cmd.ExecutionID = h.journal.newID()
	for range maxAttempts {
		accepted, err := h.accept(ctx, origin, cmd, enter)
		if !eventstore.IsConflict(err) {
			return accepted, err
		}
		if _, err := h.journal.functions.newest(ctx, h.journal, cmd.FunctionID); err != nil {
			return Accepted{}, err
		}
	}
	return Accepted{}, errTooBusy
}

func (h RequestExecutionHandler) accept(ctx context.Context, origin Origin, cmd domain.RequestExecution, enter Enter) (Accepted, error) {
	function, err := h.journal.functions.known(ctx, h.journal, cmd.FunctionID)
	if err != nil {
		return Accepted{}, err
	}
	cmd.Function = function.state
	// The id is new, so there is no stream to load.
	requested, err := cmd.Decide(domain.Execution{})
	if err != nil {
		return Accepted{}, h.refusal(ctx, function, cmd, err)
	}
	a, err := h.encode(ctx, origin, cmd, requested)
	if err != nil {
		return Accepted{}, err
	}
	place, err := enter(ctx, function.state)
	if err != nil {
		return Accepted{}, err
	}
	guard := eventstore.Write{StreamID: cmd.FunctionID, Expected: eventstore.Exactly(function.version)}
	if place == nil {
		return a.appended(h.journal.store.Append(ctx, a.write, guard))
	}
	return h.begin(ctx, a, guard, place)
}

// acceptance is an execution that is about to be accepted.
type acceptance struct {
	attempt *domain.Attempt
	write   eventstore.Write
}

func (a acceptance) appended(position eventstore.Position, err error) (Accepted, error) {
	if err != nil {
		return Accepted{}, err
	}
	return Accepted{Attempt: a.attempt, Position: position}, nil
}

func (h RequestExecutionHandler) encode(ctx context.Context, origin Origin, cmd domain.RequestExecution, requested []domain.Event) (acceptance, error) {
	write, err := h.journal.write(ctx, cmd.ExecutionID, eventstore.New, origin.metadata(cmd.AccountID), requested...)
	if err != nil {
		return acceptance{}, err
	}
	return acceptance{write: write, attempt: &domain.Attempt{
		Execution: domain.Fold[domain.Execution](requested...), Function: cmd.Function, Version: len(requested),
		RequestEventID: write.Events[0].ID, CorrelationID: write.Events[0].CorrelationID,
	}}, nil
}

// begin claims the execution in the append that accepts it, and runs it.
func (h RequestExecutionHandler) begin(ctx context.Context, a acceptance, guard eventstore.Write, place Place) (Accepted, error) {
	accepted, err := h.claim(ctx, a, guard, place.WorkerID())
	if err != nil {
		place.Leave()
		return Accepted{}, err
	}
	running := *accepted.Attempt // which moves on while the caller looks at what was accepted
	place.Run(&running)
	return accepted, nil
}

func (h RequestExecutionHandler) claim(ctx context.Context, a acceptance, guard eventstore.Write, workerID uuid.UUID) (Accepted, error) {
	started, err := domain.StartExecution{WorkerID: workerID}.Decide(a.attempt.Execution)
	if err != nil {
		return Accepted{}, err
	}
	claim, err := h.journal.write(ctx, a.write.StreamID, eventstore.New, workerMetadata(a.attempt, workerID), started...)
	if err != nil {
		return Accepted{}, err
	}
	a.write.Events = append(a.write.Events, claim.Events...)
	advanced(a.attempt, started)
	// Whoever claims must know whether that happened.
	return a.appended(h.journal.store.Append(context.WithoutCancel(ctx), a.write, guard))
}

// refusal makes sure that what is refused is refused by the function as it is now. An append would have found out.
func (h RequestExecutionHandler) refusal(ctx context.Context, known history[domain.Function], cmd domain.RequestExecution, refused error) error {
	now, err := h.journal.functions.newest(ctx, h.journal, cmd.FunctionID)
	if err != nil {
		return err
	}
	cmd.Function = now
	if _, err := cmd.Decide(domain.Execution{}); err != nil {
		return err
	}
	return &eventstore.VersionConflict{StreamID: cmd.FunctionID, Expected: eventstore.Exactly(known.version)} // decide again
}

package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// ErasureState says what the eraser does about traces.
type ErasureState string

// The states of the eraser.
const (
	ErasureIdle     ErasureState = "idle"     // nothing is left of any erased account
	ErasureSettling ErasureState = "settling" // waits until every server has forgotten the keys, or rests from the last time
	ErasureRemoving ErasureState = "removing" // rebuilds the read models and drops the old ones
	ErasureFailed   ErasureState = "failed"   // could not remove traces, and tries again
)

// ErasureStatus is how far erasures are.
type ErasureStatus struct {
	State    ErasureState `json:"state"`
	Pending  int          `json:"pending"`  // accounts that nobody can read any more, but that have left traces
	Position Position     `json:"position"` // nothing is left of the accounts that were erased up to here
	Error    string       `json:"error,omitempty"`
}

// Status tells how far erasures are. What is done about the pending ones it tells of this server only.
func (e *Eraser) Status(ctx context.Context) (ErasureStatus, error) {
	position, err := e.checkpoint(ctx)
	if err != nil {
		return ErasureStatus{}, err
	}
	status := ErasureStatus{State: ErasureIdle, Position: position}
	err = e.store.Pool().QueryRow(ctx, "select count(*) from erased_accounts where position > $1", position).Scan(&status.Pending)
	if err != nil || status.Pending == 0 {
		return status, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	status.State = e.state
	if e.cause != nil {
		status.Error = e.cause.Error()
	}
	return status, nil
}

func (e *Eraser) enter(state ErasureState, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state, e.cause = state, cause
}

const (
	// settleFor is how long after their keys were destroyed the traces of accounts are removed: until then, a server that
	// was not told may still make new ones.
	settleFor = eventstore.KeysRememberedFor + time.Second

	// restAfter is how long the eraser rests after it has removed traces, as a multiple of the time that it took. Many
	// erasures are one piece of work then, and nobody can keep the server busy by registering and erasing.
	restAfter = 10
)

// removeTraces removes the traces of those whose keys are destroyed.
func (e *Eraser) removeTraces(ctx context.Context) {
	for {
		var upto Position
		select {
		case upto = <-e.destroyed:
		case <-ctx.Done():
			return
		}
		if sleep(ctx, settleFor) != nil {
			return
		}
		began := time.Now()
		if e.removeUntilDone(ctx, upto) != nil {
			return
		}
		e.enter(ErasureSettling, nil)
		if sleep(ctx, restAfter*time.Since(began)) != nil {
			return
		}
	}
}

// removeUntilDone tries until nothing is left. The error is that of ctx.
func (e *Eraser) removeUntilDone(ctx context.Context, upto Position) error {
	for wait := retryErasure; ; wait = min(2*wait, lastRetryErasure) {
		err := e.removeOnce(ctx, upto)
		switch {
		case err == nil || ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errElsewhere):
			wait = retryErasure
		default:
			e.enter(ErasureFailed, err)
			e.logger.WarnContext(ctx, "traces of erased accounts are left in the database's files; trying again", "in", wait, "error", err)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// errElsewhere says that another server removes traces.
var errElsewhere = errors.New("another server is removing traces")

// removeOnce removes the traces of all accounts that were erased up to a position, unless that is done.
func (e *Eraser) removeOnce(ctx context.Context, upto Position) error {
	unlock, locked, err := e.store.TryLock(ctx, "voltrun eraser")
	if err != nil {
		return err
	}
	if !locked {
		return errElsewhere
	}
	defer unlock()
	position, err := e.checkpoint(ctx)
	if err != nil || position >= upto {
		return err
	}
	return e.removeUpTo(ctx, upto)
}

func (e *Eraser) removeUpTo(ctx context.Context, upto Position) error {
	e.enter(ErasureRemoving, nil)
	began := time.Now()
	if err := e.store.SealPlain(ctx, e.keys, e.logger); err != nil { // of a log that was imported since the server started
		return err
	}
	if err := errors.Join(e.store.ForgetLateAnswers(ctx), e.store.RewriteVault(ctx)); err != nil {
		return err
	}
	for _, name := range e.rebuilder.Names() {
		if err := e.rebuild(ctx, name); err != nil {
			return fmt.Errorf("rebuild %s: %w", name, err)
		}
	}
	if err := e.rebuilder.dropLeftovers(ctx); err != nil {
		return err
	}
	checkpointed, err := e.store.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if err := e.saveCheckpoint(ctx, upto); err != nil {
		return err
	}
	e.logger.InfoContext(ctx, "nothing is left of erased accounts", "up_to", upto, "took", time.Since(began).Round(time.Millisecond),
		"checkpoint", checkpointed)
	return nil
}

// rebuild waits for another rebuild of the same read model, which may have read the log too early.
func (e *Eraser) rebuild(ctx context.Context, name string) error {
	for {
		err := e.rebuilder.Rebuild(ctx, name, nil)
		if !errors.Is(err, ErrRebuilding) {
			return err
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// eraserName is the name of the eraser's checkpoint: nothing is left of the accounts that were erased up to there.
const eraserName = "eraser"

func (e *Eraser) checkpoint(ctx context.Context) (position Position, err error) {
	err = e.store.Pool().QueryRow(ctx, "select coalesce(max(position), 0) from checkpoints where consumer = $1 and topic = $2",
		eraserName, domain.AccountErased{}.EventType()).Scan(&position)
	if err != nil {
		return 0, fmt.Errorf("read how far erasures are: %w", err)
	}
	return position, nil
}

func (e *Eraser) saveCheckpoint(ctx context.Context, position Position) error {
	_, err := e.store.Pool().Exec(ctx, `insert into checkpoints (consumer, topic, position) values ($1, $2, $3)
		on conflict (consumer, topic) do update set position = greatest(checkpoints.position, excluded.position)`,
		eraserName, domain.AccountErased{}.EventType(), position)
	if err != nil {
		return fmt.Errorf("note how far erasures are: %w", err)
	}
	return nil
}

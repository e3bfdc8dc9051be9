package commands

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// AnswersKept is how long a request can be repeated.
const AnswersKept = 48 * time.Hour

// DefaultPatience is how long a request waits for another one under its key that still runs.
const DefaultPatience = 5 * time.Second

// keepWithin bounds how long an answer may take to be stored.
const keepWithin = 5 * time.Second

// Idempotency carries out requests that their clients may send again, each at most once and with the same answer every
// time, over any number of servers and whatever crashes.
//
// The append of a run has a receipt in it (domain.RequestCarriedOut), in a stream that no other request has: the effect
// and its receipt are both there or neither, and one run wins of those at the same time. No answer is given before it is
// kept. When a receipt has no answer, because a server ended in between, the request is run over the log as it was before
// its effect, with the time, ids and secrets of the first run. That run appends nothing; it only comes to the same answer.
type Idempotency struct {
	Patience time.Duration // DefaultPatience; to be set before the first request

	handlers *Handlers
	answers  eventstore.Answers
	root     [32]byte
	flights  flights
}

// NewIdempotency makes the service. root has to be the same for all servers on one log and never change; who knows it
// and the log, but not the key of a request, learns nothing about that request.
func NewIdempotency(handlers *Handlers, answers eventstore.Answers, root [32]byte) *Idempotency {
	return &Idempotency{Patience: DefaultPatience, handlers: handlers, answers: answers, root: root}
}

// Request is a call that its client may send again under the same key.
type Request struct {
	Owner     string    // who chose the key; the same key of another owner means another request
	Key       string    // the client's
	Content   []byte    // all that is asked: it must be the same each time
	AccountID uuid.UUID // who asks; nil when nobody is signed in
}

// Run carries a request out with these handlers, by one append at most, and says in its own form what the answer is.
type Run func(ctx context.Context, handlers *Handlers) (answer []byte, outcome Outcome)

// Outcome says what an answer is worth.
type Outcome int

// The outcomes of a run.
const (
	Failed  Outcome = iota // nothing is certain; the request should be sent again
	Refused                // it is not done; that is final only when the refusal itself is recorded
	Done
)

var (
	// ErrStillRunning answers a request under whose key another one still runs.
	ErrStillRunning = domain.Errorf(domain.Conflict, "A request with this Idempotency-Key is still running. Send it again in a moment to get its answer.")

	errOtherContent = domain.Errorf(domain.KeyReused,
		"This Idempotency-Key was used for another request. Repeat that one exactly as it was, or send a new request with a new key.")
	errAnswerLost = domain.Errorf(domain.Conflict,
		"The request with this Idempotency-Key was carried out, but its answer cannot be told any more. Look at what is there before you send it with a new key.")
)

// Do carries a request out or, when that was done before, only answers it again. An answer that is not final is given as
// well, but the request runs anew when it is sent again.
func (i *Idempotency) Do(ctx context.Context, r Request, run Run) (answer []byte, repeated bool, err error) {
	id := r.identify(i.root)
	patience := time.NewTimer(i.Patience)
	defer patience.Stop()
	for {
		flight, mine := i.flights.join(id.stream)
		if mine {
			defer i.flights.land(id.stream, flight)
			return i.settle(ctx, r, id, flight, run)
		}
		select {
		case <-flight.landed:
			if flight.kept != nil {
				answer, err = id.open(flight.kept)
				return answer, true, err
			}
		case <-patience.C:
			return nil, false, ErrStillRunning
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// settle finds the answer of a request that nobody else in this process is working on.
func (i *Idempotency) settle(ctx context.Context, r Request, id identity, f *flight, run Run) (answer []byte, repeated bool, err error) {
	for {
		kept, err := i.answers.Answer(ctx, id.stream, i.handlers.journal.now())
		if err == nil {
			return f.tell(id, kept, true)
		}
		if !errors.Is(err, eventstore.ErrNoAnswer) {
			return nil, false, err
		}
		a, err := i.newAttempt(ctx, id)
		if err != nil {
			return nil, false, err
		}
		answer, outcome := run(ctx, a.handlers)
		switch {
		case a.effect.overtaken:
			continue // another server's run was faster, and its answer counts
		case outcome == Failed, outcome == Refused && !a.effect.there && !a.again:
			return answer, false, nil // nothing is final
		case a.again && !a.effect.there:
			return nil, false, errAnswerLost // it depended on something that is not in the log, and is different now
		}
		if kept, err = i.keep(ctx, r, id, a.effect, answer); err != nil {
			return nil, false, err
		}
		return f.tell(id, kept, a.again)
	}
}

// keep stores an answer, unless another server has stored its own by now, and returns the one that counts. It does not
// stop for ctx: what was done is worth its answer.
func (i *Idempotency) keep(ctx context.Context, r Request, id identity, e *effect, answer []byte) ([]byte, error) {
	account := r.AccountID
	if e.there {
		account = e.account
	}
	now := i.handlers.journal.now()
	storing, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepWithin)
	defer cancel()
	return i.answers.KeepAnswer(storing, eventstore.Answer{
		ID: id.stream, AccountID: account, Sealed: id.seal(answer), KeptUntil: now.Add(AnswersKept),
	}, now)
}

// Prune deletes the answers whose time is over.
func (i *Idempotency) Prune(ctx context.Context) (int, error) {
	return i.answers.PruneAnswers(ctx, i.handlers.journal.now())
}

package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// attempt is one run of a request.
type attempt struct {
	handlers *Handlers
	effect   *effect
	again    bool // the effect was there before: the run only comes to its answer
}

// effect is what a run did to the log.
type effect struct {
	there     bool
	account   uuid.UUID // whom it concerns
	overtaken bool      // the receipt in the log is another run's
}

// newAttempt prepares a run: one that has an effect or, when there is a receipt, one that looks back on it.
func (i *Idempotency) newAttempt(ctx context.Context, id identity) (*attempt, error) {
	j := i.handlers.journal
	var last eventstore.Event
	for event, err := range j.store.ReadStream(ctx, id.stream, 0) {
		if err != nil {
			return nil, err
		}
		last = event
	}
	now := j.now().UTC().Truncate(time.Microsecond)
	if last.Version == 0 || now.Sub(last.RecordedAt) >= AnswersKept {
		return i.firstRun(id, last.Version, now), nil
	}
	fact, err := j.codec.Decode(ctx, last.NewEvent)
	if err != nil {
		return nil, fmt.Errorf("read the receipt of request %s: %w", id.stream, err)
	}
	receipt, readable := fact.(domain.RequestCarriedOut)
	switch {
	case !readable:
		return nil, errAnswerLost
	case !id.isOf(receipt.Fingerprint):
		return nil, errOtherContent
	}
	return i.lookBack(id, last, receipt.At), nil
}

func (i *Idempotency) firstRun(id identity, receipts int, now time.Time) *attempt {
	receiptID := newID()
	j := i.journalOf(id, receiptID, now)
	log := &receipted{
		Store: j.store, codec: j.codec, stream: id.stream, receipts: receipts, receiptID: receiptID,
		receipt: domain.RequestCarriedOut{Fingerprint: id.fingerprint, At: now},
	}
	j.store = log
	return &attempt{handlers: i.handlers.over(j, i.handlers.vault), effect: &log.effect}
}

func (i *Idempotency) lookBack(id identity, receipt eventstore.Event, at time.Time) *attempt {
	j := i.journalOf(id, receipt.ID, at)
	log := &past{Store: j.store, receipt: receipt}
	j.store, j.functions = log, newFunctionCache() // the one of today knows what came later
	return &attempt{handlers: i.handlers.over(j, readOnly{i.handlers.vault}), effect: &log.effect, again: true}
}

// journalOf makes the journal of the run with that receipt: each time with the same time, ids and secrets.
func (i *Idempotency) journalOf(id identity, receiptID uuid.UUID, at time.Time) *journal {
	j := *i.handlers.journal
	j.random = id.randomOf(receiptID)
	j.now = func() time.Time { return at }
	j.newID = func() uuid.UUID { return idAt(at, j.random) }
	return &j
}

// receipted is the log for a first run: it appends the receipt with the effect.
type receipted struct {
	eventstore.Store
	codec     *eventstore.Codec
	stream    uuid.UUID
	receipts  int // of earlier requests under the key, whose time is over
	receiptID uuid.UUID
	receipt   domain.RequestCarriedOut
	effect    effect
}

// errOvertaken ends a run that can have no effect any more. Nobody gets to see it.
var errOvertaken = domain.Errorf(domain.Conflict, "Another request with this Idempotency-Key was faster.")

var errSecondAppend = errors.New("a request with an idempotency key has a second append, which would not be there or missing together with the first")

// Append writes the receipt first, so that it stands right before the effect, and its conflict is told before any other.
func (s *receipted) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	if s.effect.there {
		return 0, errSecondAppend
	}
	meta := writes[0].Events[0].Metadata
	receipt, err := encode(ctx, s.codec, s.receiptID, s.receipt, meta)
	if err != nil {
		return 0, err
	}
	first := eventstore.Write{StreamID: s.stream, Expected: eventstore.Exactly(s.receipts), Events: []eventstore.NewEvent{receipt}}
	position, err := s.Store.Append(ctx, append([]eventstore.Write{first}, writes...)...)
	var conflict *eventstore.VersionConflict
	if errors.As(err, &conflict) && conflict.StreamID == s.stream {
		s.effect.overtaken = true
		return 0, errOvertaken
	}
	if err == nil {
		s.effect.there, s.effect.account = true, meta.AccountID
	}
	return position, err
}

// past is the log as it was before the effect of a request.
type past struct {
	eventstore.Store
	receipt eventstore.Event
	effect  effect
}

// ReadStream ends where the receipt stands.
func (s *past) ReadStream(ctx context.Context, streamID uuid.UUID, afterVersion int) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for event, err := range s.Store.ReadStream(ctx, streamID, afterVersion) {
			if err == nil && event.Position > s.receipt.Position {
				return
			}
			if !yield(event, err) {
				return
			}
		}
	}
}

// Append finds what the first run appended to the same stream and returns its position. Nothing is appended.
func (s *past) Append(ctx context.Context, writes ...eventstore.Write) (eventstore.Position, error) {
	if s.effect.there {
		return 0, errSecondAppend
	}
	for event, err := range s.Store.ReadStream(ctx, writes[0].StreamID, max(0, int(writes[0].Expected))) {
		if err != nil {
			return 0, err
		}
		if event.Position == s.receipt.Position+1 {
			s.effect = effect{there: true, account: event.AccountID}
			return s.receipt.Position + eventstore.Position(countEvents(writes)), nil
		}
	}
	return 0, errAnswerLost
}

func countEvents(writes []eventstore.Write) (n int) {
	for _, w := range writes {
		n += len(w.Events)
	}
	return n
}

// readOnly is a vault for a run that only looks back: what it would change was changed then, and may be newer by now.
type readOnly struct{ eventstore.Vault }

// Put implements eventstore.Vault.
func (readOnly) Put(context.Context, uuid.UUID, string, []byte) error { return nil }

// PutNew implements eventstore.Vault.
func (v readOnly) PutNew(ctx context.Context, owner uuid.UUID, name string, _ []byte) ([]byte, error) {
	return v.Get(ctx, owner, name)
}

// Forget implements eventstore.Vault.
func (readOnly) Forget(context.Context, uuid.UUID) error { return nil }

// Erase implements eventstore.Vault.
func (readOnly) Erase(context.Context, uuid.UUID) error { return nil }

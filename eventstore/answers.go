package eventstore

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Answers keeps, for a while, what was answered to requests that may be sent again. It stands beside the log, because an
// answer may show a secret: callers seal it, and Vault.Forget forgets the answers of an owner with its secrets.
type Answers interface {
	// KeepAnswer stores an answer unless one of its id is kept already, and returns the one that is kept then. An answer
	// whose time is over by now counts as none.
	KeepAnswer(ctx context.Context, answer Answer, now time.Time) (kept []byte, err error)
	// Answer returns what is kept under an id, or ErrNoAnswer.
	Answer(ctx context.Context, id uuid.UUID, now time.Time) ([]byte, error)
	// PruneAnswers deletes the answers whose time is over by now, and tells how many there were.
	PruneAnswers(ctx context.Context, now time.Time) (int, error)
}

// Answer is what was answered to a request.
type Answer struct {
	ID        uuid.UUID // the request's
	AccountID uuid.UUID // whom it concerns; nil when nobody
	Sealed    []byte
	KeptUntil time.Time
}

// ErrNoAnswer answers for a request without an answer, and for one whose time is over.
var ErrNoAnswer = errors.New("no answer is kept for this request")

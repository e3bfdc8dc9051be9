package proof

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Prover answers for the log to whoever wants to check it. Its errors are *domain.Error where the caller can do something
// about them.
type Prover struct {
	db       *pgxpool.Pool
	payloads payloads
	key      *Key
}

// NewProver makes a prover of the log in a database, whose heads key signs. archive may be nil.
func NewProver(db *pgxpool.Pool, codec *eventstore.Codec, archive eventstore.Archive, key *Key) *Prover {
	return &Prover{db: db, payloads: payloads{codec, archive}, key: key}
}

// Checkpoint is a signed head, and the key that checks it.
type Checkpoint struct {
	Size      int64     `json:"size"`
	Root      tlog.Hash `json:"root"` // in base64, as all hashes of the tree
	SignedAt  time.Time `json:"signed_at"`
	PublicKey string    `json:"public_key"`
	Note      string    `json:"note"`
}

// EventProof shows that an event stands in the log.
type EventProof struct {
	Line
	Checkpoint Checkpoint `json:"checkpoint"`
}

// Consistency shows that the log of the checkpoint begins with the one that had From events.
type Consistency struct {
	From       int64          `json:"from"`
	Proof      tlog.TreeProof `json:"proof"`
	Checkpoint Checkpoint     `json:"checkpoint"`
}

var (
	errNothingSigned = domain.Errorf(domain.Unavailable, "Nothing was signed yet. The first head follows the first event within a second or two.")
	errDoesNotHold   = domain.Errorf(domain.Unavailable,
		"No proof can be given, because the history in the database is not what was signed. Whoever runs this VoltRun finds out more with: voltrun audit verify")
	errSignedElsewhere = domain.Errorf(domain.Unavailable,
		"No proof can be given, because the log is signed by another key than this server's. Whoever runs it finds out more with GET /health.")
)

// Checkpoint returns the newest head.
func (p *Prover) Checkpoint(ctx context.Context) (Checkpoint, error) {
	head, err := p.head(ctx, 0)
	return p.checkpoint(head), err
}

func (p *Prover) checkpoint(head Head) Checkpoint {
	return Checkpoint{Size: head.Size, Root: head.Root, SignedAt: head.SignedAt, PublicKey: p.key.Public(), Note: head.Note}
}

// head returns the head of that size, or the newest one for 0.
func (p *Prover) head(ctx context.Context, size int64) (Head, error) {
	stored, err := newestHead(ctx, p.db)
	switch {
	case err != nil:
		return Head{}, err
	case stored.Size == 0:
		return Head{}, errNothingSigned
	case size > 0:
		newest := stored.Size
		if stored, err = headOfSize(ctx, p.db, size); err != nil {
			return Head{}, err
		}
		if stored.Size == 0 {
			return Head{}, domain.Errorf(domain.NotFound,
				"There is no head of %d events: none was signed, or it was thinned out since. The newest has %d.", size, newest)
		}
	}
	head, err := stored.open(p.key.PublicKeys)
	if errors.Is(err, errOtherKey) {
		return Head{}, errSignedElsewhere
	}
	if err != nil {
		return Head{}, fmt.Errorf("the head of %d events %w: %w", stored.Size, err, errDoesNotHold)
	}
	return head, nil
}

// Event proves that an event of the account stands in the log that has a head of that size, 0 for the newest.
func (p *Prover) Event(ctx context.Context, account uuid.UUID, position, size int64) (EventProof, error) {
	r, err := p.row(ctx, account, position)
	if err != nil {
		return EventProof{}, err
	}
	head, err := p.head(ctx, size)
	switch {
	case err != nil:
		return EventProof{}, err
	case position > head.Size && size > 0:
		return EventProof{}, domain.Errorf(domain.Invalid, "The head of %d events does not cover the event at position %d.", size, position)
	case position > head.Size:
		return EventProof{}, domain.Errorf(domain.Unavailable, "The event at position %d is not covered by a signed head yet. It will be in a second or two.", position)
	}
	line, err := p.prove(ctx, newStoredTree(ctx, p.db), head, r)
	return EventProof{line, p.checkpoint(head)}, err
}

// row returns an event of the account.
func (p *Prover) row(ctx context.Context, account uuid.UUID, position int64) (*row, error) {
	rows, err := p.db.Query(ctx, "select "+leafColumns+", data from events where position = $1 and account_id = $2", position, account)
	if err != nil {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, newRowScanner().scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, domain.Errorf(domain.NotFound, "There is no event at position %d.", position)
	}
	return &r, err
}

// prove makes the line that shows an event, with its proof. A proof that does not hold is not given out.
func (p *Prover) prove(ctx context.Context, stored *storedTree, head Head, r *row) (Line, error) {
	line, leaf, err := p.line(ctx, r)
	if err != nil {
		return Line{}, err
	}
	line.Proof, err = tlog.ProveRecord(head.Size, r.position-1, stored)
	if err == nil {
		err = tlog.CheckRecord(line.Proof, head.Size, head.Root, r.position-1, leaf)
	}
	if err != nil {
		return Line{}, fmt.Errorf("prove the event at position %d: %w", r.position, errors.Join(err, errDoesNotHold))
	}
	return line, nil
}

// Consistency proves that the log of the head of size to, 0 for the newest, begins with the one that had from events.
func (p *Prover) Consistency(ctx context.Context, from, to int64) (Consistency, error) {
	head, err := p.head(ctx, to)
	if err != nil {
		return Consistency{}, err
	}
	proof, err := p.continuation(ctx, "from", from, head)
	if err != nil {
		return Consistency{}, err
	}
	return Consistency{From: from, Proof: proof, Checkpoint: p.checkpoint(head)}, nil
}

// continuation proves that the log of a head begins with the one of an older head, of which the caller gave the size under
// that name.
func (p *Prover) continuation(ctx context.Context, name string, size int64, head Head) (tlog.TreeProof, error) {
	if size < 1 || size > head.Size {
		return nil, domain.Errorf(domain.Invalid, "%s must be between 1 and %d, the size of the newer head, but is %d.", name, head.Size, size)
	}
	stored := newStoredTree(ctx, p.db)
	proof, err := tlog.ProveTree(head.Size, size, stored)
	if err == nil {
		var root tlog.Hash
		if root, err = tlog.TreeHash(size, stored); err == nil {
			err = tlog.CheckTree(proof, head.Size, head.Root, size, root)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("prove that %d events are the first of %d: %w", size, head.Size, errors.Join(err, errDoesNotHold))
	}
	return proof, nil
}

package proof

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Head is a signed root of the tree when it had so many leaves.
type Head struct {
	Size     int64     // how many events it covers: those at the positions 1 to Size
	Root     tlog.Hash // over their leaves
	Note     string    // what was signed, with the signature: a C2SP checkpoint
	SignedAt time.Time // by the server's clock, and not signed itself; zero when it is not known
}

// sign makes the head of a tree, at that time.
func (k *Key) sign(t *tree, at time.Time) (Head, error) {
	root := t.root()
	text := fmt.Sprintf("%s\n%d\n%s\n", k.signer.Name(), t.size, root)
	signed, err := note.Sign(&note.Note{Text: text}, k.signer)
	if err != nil {
		return Head{}, fmt.Errorf("sign a head: %w", err)
	}
	return Head{Size: t.size, Root: root, Note: string(signed), SignedAt: at.UTC().Truncate(time.Microsecond)}, nil
}

// errOtherKey is why a note does not count that is signed by somebody else.
var errOtherKey = errors.New("not by")

// Open reads a signed note and checks that one of these keys signed it. The error says what is wrong with the note.
func (p PublicKeys) Open(text string) (Head, error) {
	opened, err := note.Open([]byte(text), p.verifiers)
	var unknown *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unknown):
		return Head{}, fmt.Errorf("is signed by %s and %w %s", signers(unknown.Note), errOtherKey, p)
	case errors.As(err, &invalid):
		return Head{}, errors.New("has a signature that does not fit: it was altered after it was signed")
	case err != nil:
		return Head{}, errors.New("is not a signed note")
	}
	head, origin, err := parseCheckpoint(opened.Text)
	if err == nil && origin != opened.Sigs[0].Name {
		err = fmt.Errorf("is of the log %q, but signed for %q", origin, opened.Sigs[0].Name)
	}
	head.Note = text
	return head, err
}

func signers(n *note.Note) string {
	var keys []string
	for _, signature := range n.UnverifiedSigs {
		keys = append(keys, fmt.Sprintf("%s+%08x", signature.Name, signature.Hash))
	}
	return strings.Join(keys, " and ")
}

// parseCheckpoint reads the text of a C2SP checkpoint: the origin, the size and the root in a line each. What may stand
// behind them says nothing to us.
func parseCheckpoint(text string) (head Head, origin string, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 {
		return Head{}, "", errors.New("is not a head of a log")
	}
	size, sizeErr := strconv.ParseInt(lines[1], 10, 64)
	root, rootErr := tlog.ParseHash(lines[2])
	if sizeErr != nil || rootErr != nil || size < 0 || lines[1] != strconv.FormatInt(size, 10) {
		return Head{}, "", errors.New("is not a head of a log")
	}
	return Head{Size: size, Root: root}, lines[0], nil
}

// storedHead is a row of the heads table, which anybody may have written.
type storedHead struct {
	Size     int64
	Root     []byte
	Note     string
	SignedAt time.Time
}

const headColumns = "size, root, note, signed_at"

// open checks a stored head's signature, and that the row says what was signed.
func (h storedHead) open(keys PublicKeys) (Head, error) {
	head, err := keys.Open(h.Note)
	if err == nil && (head.Size != h.Size || string(head.Root[:]) != string(h.Root)) {
		err = errors.New("says something else than its signed note")
	}
	head.SignedAt = h.SignedAt.UTC()
	return head, err
}

// newestHead returns the newest row of the heads table; a zero one when there is none.
func newestHead(ctx context.Context, db querier) (storedHead, error) {
	return findHead(ctx, db, "select "+headColumns+" from heads order by size desc limit 1")
}

// headOfSize returns the head of that size; a zero one when there is none.
func headOfSize(ctx context.Context, db querier, size int64) (storedHead, error) {
	return findHead(ctx, db, "select "+headColumns+" from heads where size = $1", size)
}

func findHead(ctx context.Context, db querier, query string, args ...any) (storedHead, error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return storedHead{}, fmt.Errorf("read the heads: %w", err)
	}
	head, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[storedHead])
	if errors.Is(err, pgx.ErrNoRows) {
		return storedHead{}, nil
	}
	if err != nil {
		return storedHead{}, fmt.Errorf("read the heads: %w", err)
	}
	return head, nil
}

func writeHead(ctx context.Context, tx pgx.Tx, head Head) error {
	_, err := tx.Exec(ctx, "insert into heads (size, root, note, signed_at) values ($1, $2, $3, $4)",
		head.Size, head.Root[:], head.Note, head.SignedAt)
	if err != nil {
		return fmt.Errorf("store a head: %w", err)
	}
	return nil
}

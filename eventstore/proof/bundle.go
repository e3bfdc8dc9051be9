package proof

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// A bundle is events with what proves them, for somebody who has no access to the log: lines of JSON (NDJSON), a Header, a
// Line for each event in the order of the log, and an End.
const (
	bundleFormat  = "voltrun bundle"
	bundleVersion = 1
)

// Header is a bundle's first line.
type Header struct {
	Format    string `json:"format"`
	Version   int    `json:"version"`
	PublicKey string `json:"public_key"` // of whoever signed the head; a reader compares it with one from elsewhere
	Head      string `json:"head"`       // the signed note

	// Complete says that these are all events that the head covers. They need no proofs then: the root is made of them.
	Complete  bool       `json:"complete"`
	Account   *uuid.UUID `json:"account,omitempty"`   // whose events these are
	Execution *uuid.UUID `json:"execution,omitempty"` // or the one that they tell of

	Since *Since `json:"since,omitempty"`
}

// Since shows that the log begins with the one of an older head.
type Since struct {
	Size  int64          `json:"size"`
	Proof tlog.TreeProof `json:"proof"`
}

// Line is an event of a bundle.
type Line struct {
	Position int64            `json:"position"`
	Leaf     string           `json:"leaf"`             // what the tree holds of it
	Salt     *string          `json:"salt"`             // in hex; its bytes and the content are what the leaf commits to
	Content  *string          `json:"content"`          // the payload, JSON
	Reason   string           `json:"reason,omitempty"` // why there is no content
	Proof    tlog.RecordProof `json:"proof,omitempty"`  // hashes in base64, from the leaf to the root
}

// End is a bundle's last line. Without it, a part of the bundle is missing.
type End struct {
	Events int64 `json:"events"` // how many there are
}

// The reasons why an event has no content.
const (
	reasonErased   = "erased"
	reasonArchived = "archived"
	reasonAltered  = "altered" // it is there, and is not what was recorded
)

// Excerpt says which events a bundle has: those of an account, of an execution (or any other stream), of both, or all.
type Excerpt struct {
	Account   uuid.UUID // nil for all
	Execution uuid.UUID // nil for all
	Since     int64     // the size of an older head that the log is shown to continue; 0 for none
}

func (e Excerpt) complete() bool { return e.Account == uuid.Nil && e.Execution == uuid.Nil }

// line shows an event without its proof, and returns its hash in the tree.
func (p *Prover) line(ctx context.Context, r *row) (Line, tlog.Hash, error) {
	leaf := r.appendLeaf(nil)
	line := Line{Position: r.position, Leaf: string(leaf)}
	disclosure, err := p.payloads.disclose(ctx, r)
	switch {
	case ctx.Err() != nil:
		return Line{}, tlog.Hash{}, ctx.Err()
	case errors.Is(err, eventstore.ErrErased):
		line.Reason = reasonErased
	case errors.Is(err, eventstore.ErrArchived):
		line.Reason = reasonArchived
	case err != nil || !r.matches(disclosure):
		line.Reason = reasonAltered
	default:
		salt, content := hex.EncodeToString(eventstore.Salt(disclosure)), string(eventstore.Content(disclosure))
		line.Salt, line.Content = &salt, &content
	}
	return line, tlog.RecordHash(leaf), nil
}

// WriteBundle writes a bundle under the newest head. What was written so far is of no use when it fails.
func (p *Prover) WriteBundle(ctx context.Context, excerpt Excerpt, to io.Writer) error {
	head, header, err := p.header(ctx, excerpt)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(to, 64<<10)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	if err := lines.Encode(header); err != nil {
		return err
	}
	stored := newStoredTree(ctx, p.db)
	var end End
	err = p.eachRow(ctx, excerpt, head.Size, func(r *row) error {
		var line Line
		var err error
		if header.Complete {
			line, _, err = p.line(ctx, r)
		} else {
			line, err = p.prove(ctx, stored, head, r)
		}
		if err != nil {
			return err
		}
		end.Events++
		return lines.Encode(line)
	})
	switch {
	case err != nil:
		return err
	case end.Events == 0: // and nothing but the header is in the buffer
		return domain.Errorf(domain.NotFound, "There are no such events under the newest head, of %d events.", head.Size)
	}
	return errors.Join(lines.Encode(end), buffered.Flush())
}

func (p *Prover) header(ctx context.Context, excerpt Excerpt) (Head, Header, error) {
	head, err := p.head(ctx, 0)
	if err != nil {
		return Head{}, Header{}, err
	}
	header := Header{
		Format: bundleFormat, Version: bundleVersion, PublicKey: p.key.Public(), Head: head.Note, Complete: excerpt.complete(),
		Account: notNil(excerpt.Account), Execution: notNil(excerpt.Execution),
	}
	if excerpt.Since > 0 {
		proof, err := p.continuation(ctx, "since", excerpt.Since, head)
		if err != nil {
			return Head{}, Header{}, err
		}
		header.Since = &Since{Size: excerpt.Since, Proof: proof}
	}
	return head, header, nil
}

func notNil(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

func pgUUID(id uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: id != uuid.Nil} }

// bundlePage is how many events are read at once. Those behind the first batchBytes of payload wait for the next page, since
// whoever reads the bundle may be slow.
const bundlePage = 1000

// query reads a page of the events of an excerpt, in their order: those behind the one of which key is $1. They end at position
// upto, or, of a stream, which begins at position first, somewhere behind it.
//
// Postgres must not know that the account is only one: where it takes that for a frequent one it would look through the log by
// position, past the events of all others. So it is one of a list, and the order is one that only its index has. What a page
// of a stream has at most is in the condition, because Postgres takes all streams for short ones.
func (e Excerpt) query(first, upto int64) (query string, args []any, key func(*row) int64) {
	key = func(r *row) int64 { return r.position }
	condition, order := "position > $1 and position <= $2", "position"
	args = []any{upto}
	switch account, stream := pgUUID(e.Account), pgUUID(e.Execution); {
	case stream.Valid:
		key = func(r *row) int64 { return int64(r.version) }
		condition, order = fmt.Sprintf(`stream_id = $2 and version > $1::int and version <= $1::int + %d and position >= $3
			and ($4::uuid is null or account_id = $4)`, bundlePage), "version"
		args = []any{stream, first, account}
	case account.Valid:
		condition, order = condition+" and account_id = any(array[$3]::uuid[])", "account_id, position"
		args = append(args, account)
	}
	return fmt.Sprintf(`select %[1]s, data from (
			select *, sum(octet_length(data)) over (order by %[3]s) - coalesce(octet_length(data), 0) as bytes_before
			from events where %[2]s order by %[3]s limit %[4]d
		) page where coalesce(bytes_before, 0) < %[5]d order by %[3]s`, leafColumns, condition, order, bundlePage, batchBytes), args, key
}

// eachRow reads the events of an excerpt up to a position, in order.
func (p *Prover) eachRow(ctx context.Context, excerpt Excerpt, upto int64, do func(*row) error) error {
	var first int64
	err := p.db.QueryRow(ctx, "select coalesce(min(first_position), 0) from streams where stream_id = $1", pgUUID(excerpt.Execution)).Scan(&first)
	if err != nil {
		return fmt.Errorf("look for where a stream begins: %w", err)
	}
	query, args, key := excerpt.query(first, upto)
	for after := int64(0); ; {
		rows, err := p.db.Query(ctx, query, append([]any{after}, args...)...)
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		page, err := pgx.CollectRows(rows, newRowScanner().scan)
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		for i := range page {
			if page[i].position > upto {
				return nil
			}
			if err := do(&page[i]); err != nil {
				return err
			}
			after = key(&page[i])
		}
		if len(page) == 0 {
			return nil
		}
	}
}

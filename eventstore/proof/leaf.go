package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/voltrun/voltrun/eventstore"
)

// leafFormat is a leaf's first line.
const leafFormat = "voltrun event v1"

// leafColumns are the columns of the events table that a leaf is made of, in the order in which a rowScanner reads them.
const leafColumns = `position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, actor_prefix,
	correlation_id, causation_id, recorded_at, headers, commitment`

// row is an event as it stands in the database. What can be read there goes into the leaf, whether it makes sense or not.
type row struct {
	position      int64
	stream        pgtype.UUID
	version       int32
	id            pgtype.UUID
	kind          string
	schemaVersion int16
	account       pgtype.UUID
	actorKind     string
	actor         pgtype.UUID
	actorPrefix   pgtype.Text
	correlation   pgtype.UUID
	causation     pgtype.UUID
	recordedAt    pgtype.Timestamptz
	headers       []byte
	commitment    []byte
	data          []byte // empty unless it was asked for
}

// rowScanner reads rows of leafColumns, and of data behind them when it is there.
type rowScanner struct {
	row     row
	targets []any
}

func newRowScanner() *rowScanner {
	s := &rowScanner{}
	r := &s.row
	s.targets = []any{
		&r.position, &r.stream, &r.version, &r.id, &r.kind, &r.schemaVersion, &r.account, &r.actorKind, &r.actor, &r.actorPrefix,
		&r.correlation, &r.causation, &r.recordedAt, &r.headers, &r.commitment, &r.data,
	}
	return s
}

// scan is a pgx.RowToFunc. The row's bytes are its own.
func (s *rowScanner) scan(from pgx.CollectableRow) (row, error) {
	if err := from.Scan(s.targets[:len(from.FieldDescriptions())]...); err != nil {
		return row{}, fmt.Errorf("read an event's row: %w", err)
	}
	return s.row, nil
}

// appendLeaf appends the event's leaf: a line for each column. No two rows have the same one.
func (r *row) appendLeaf(b []byte) []byte {
	b = append(append(b, leafFormat...), '\n')
	b = appendNumber(b, r.position)
	b = appendUUID(b, r.stream)
	b = appendNumber(b, int64(r.version))
	b = appendUUID(b, r.id)
	b = appendText(b, r.kind)
	b = appendNumber(b, int64(r.schemaVersion))
	b = appendUUID(b, r.account)
	b = appendText(b, r.actorKind)
	b = appendUUID(b, r.actor)
	if r.actorPrefix.Valid {
		b = appendText(b, r.actorPrefix.String)
	} else {
		b = appendAbsent(b)
	}
	b = appendUUID(b, r.correlation)
	b = appendUUID(b, r.causation)
	b = appendTime(b, r.recordedAt)
	if r.headers == nil {
		b = appendAbsent(b)
	} else {
		sum := sha256.Sum256(r.headers)
		b = append(hex.AppendEncode(b, sum[:]), '\n')
	}
	return append(hex.AppendEncode(b, r.commitment), '\n')
}

func appendAbsent(b []byte) []byte { return append(b, '-', '\n') }

func appendNumber(b []byte, n int64) []byte { return append(strconv.AppendInt(b, n, 10), '\n') }

func appendUUID(b []byte, id pgtype.UUID) []byte {
	if !id.Valid {
		return appendAbsent(b)
	}
	var text [36]byte
	hex.Encode(text[0:8], id.Bytes[0:4])
	hex.Encode(text[9:13], id.Bytes[4:6])
	hex.Encode(text[14:18], id.Bytes[6:8])
	hex.Encode(text[19:23], id.Bytes[8:10])
	hex.Encode(text[24:36], id.Bytes[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return append(append(b, text[:]...), '\n')
}

// appendTime writes microseconds since the Unix epoch, the precision of the column.
func appendTime(b []byte, at pgtype.Timestamptz) []byte {
	if at.InfinityModifier != pgtype.Finite {
		return append(append(b, at.InfinityModifier.String()...), '\n')
	}
	return appendNumber(b, at.Time.UnixMicro())
}

// appendText quotes what could be taken for something else: VoltRun writes no such text, but others may have.
func appendText(b []byte, text string) []byte {
	if text == "" || text == "-" || strings.ContainsFunc(text, unfitForLine) {
		return append(strconv.AppendQuoteToASCII(b, text), '\n')
	}
	return append(append(b, text...), '\n')
}

func unfitForLine(r rune) bool { return r == '"' || r > unicode.MaxASCII || !unicode.IsPrint(r) }

// The lines of a leaf that are looked at again, and how many there are.
const (
	positionLine   = 1
	streamLine     = 2
	typeLine       = 5
	accountLine    = 7
	commitmentLine = 15
	leafLines      = 16
)

// parsedLeaf is what a leaf in a bundle says.
type parsedLeaf struct {
	position   int64
	stream     uuid.UUID
	account    uuid.UUID // nil when it is nobody's
	kind       string
	commitment eventstore.Commitment
}

var errNoLeaf = errors.New("is not a leaf in the form " + leafFormat)

func parseLeaf(text string) (parsedLeaf, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != leafLines+1 || lines[0] != leafFormat || lines[leafLines] != "" || strings.ContainsFunc(text, unfitForLeaf) {
		return parsedLeaf{}, errNoLeaf
	}
	position, positionErr := strconv.ParseInt(lines[positionLine], 10, 64)
	stream, streamErr := uuid.Parse(lines[streamLine])
	account, accountErr := uuid.Nil, error(nil)
	if lines[accountLine] != "-" {
		account, accountErr = uuid.Parse(lines[accountLine])
	}
	commitment, commitmentErr := hex.DecodeString(lines[commitmentLine])
	if errors.Join(positionErr, streamErr, accountErr, commitmentErr) != nil || len(commitment) != len(eventstore.Commitment{}) {
		return parsedLeaf{}, errNoLeaf
	}
	return parsedLeaf{position, stream, account, lines[typeLine], eventstore.Commitment(commitment)}, nil
}

// unfitForLeaf tells what appendLeaf never writes.
func unfitForLeaf(r rune) bool { return r != '\n' && r != '"' && unfitForLine(r) }

// matches tells whether a disclosure is the one that was committed to.
func (r *row) matches(disclosure []byte) bool {
	commitment := eventstore.Commit(disclosure)
	return bytes.Equal(commitment[:], r.commitment)
}

// plain tells whether anybody can read the payload.
func (r *row) plain() bool {
	_, plain := eventstore.PlainDisclosure(r.data)
	return plain
}

// hash is the tree's hash of the event.
func (r *row) hash(buffer []byte) (tlog.Hash, []byte) {
	buffer = r.appendLeaf(buffer[:0])
	return tlog.RecordHash(buffer), buffer
}

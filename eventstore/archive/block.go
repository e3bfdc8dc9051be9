package archive

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// A block ends at whichever of these comes first: it is what has to be decompressed to read one payload.
const (
	blockEvents = 256
	blockBytes  = 1 << 20 // of JSON
)

// A block is a gzip member of its own. Any gzip reads the whole file; who looks for one event jumps over the members,
// because the header of each says in an extra field (RFC 1952, 2.3.1.1) how long it is and which positions it has.
const (
	extraAt     = 12 // where the extra field begins in a member: behind the fixed header and the field's length
	extraTag    = "VR"
	extraLength = len(extraTag) + 2 + 3*8 // tag, length of the rest, then length of the member, first and last position
	headerSize  = extraAt + extraLength
)

// line is an event in a file of the archive, as JSON.
type line struct {
	Position   eventstore.Position `json:"position"`
	ID         uuid.UUID           `json:"id"`
	Type       string              `json:"type"`
	Commitment eventstore.Hex      `json:"commitment"`
	Data       []byte              `json:"data"` // the payload as it stood in the log, sealed as it was
}

// block is where a run of events stands in a file.
type block struct {
	at, length  int64
	first, last eventstore.Position
}

// blockWriter writes lines as a run of blocks.
type blockWriter struct {
	out         io.Writer
	lines       bytes.Buffer
	count       int
	first, last eventstore.Position
}

func (w *blockWriter) write(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if w.count == 0 {
		w.first = l.Position
	}
	w.count, w.last = w.count+1, l.Position
	w.lines.Write(text)
	w.lines.WriteByte('\n')
	if w.count == blockEvents || w.lines.Len() >= blockBytes {
		return w.flush()
	}
	return nil
}

// flush ends the block.
func (w *blockWriter) flush() error {
	if w.count == 0 {
		return nil
	}
	var member bytes.Buffer
	compressor := gzip.NewWriter(&member)
	extra := make([]byte, extraLength)
	copy(extra, extraTag)
	binary.LittleEndian.PutUint16(extra[2:], uint16(extraLength-4))
	binary.LittleEndian.PutUint64(extra[12:], uint64(w.first))
	binary.LittleEndian.PutUint64(extra[20:], uint64(w.last))
	compressor.Extra = extra
	_, err := compressor.Write(w.lines.Bytes())
	if err := errors.Join(err, compressor.Close()); err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(member.Bytes()[extraAt+4:], uint64(member.Len())) // known only now
	w.lines.Reset()
	w.count = 0
	_, err = w.out.Write(member.Bytes())
	return err
}

var errNoBlock = errors.New("it has no block of events where one should begin")

// readBlocks finds the blocks of a file without reading what is in them.
func readBlocks(file io.ReaderAt, size int64) ([]block, error) {
	var blocks []block
	header := make([]byte, headerSize)
	for at := int64(0); at < size; {
		if _, err := file.ReadAt(header, at); err != nil {
			return nil, errNoBlock
		}
		const magic, hasExtra = "\x1f\x8b\x08", 4
		extra := header[extraAt:]
		if string(header[:3]) != magic || header[3]&hasExtra == 0 || string(extra[:2]) != extraTag {
			return nil, errNoBlock
		}
		b := block{
			at: at, length: int64(binary.LittleEndian.Uint64(extra[4:])),
			first: eventstore.Position(binary.LittleEndian.Uint64(extra[12:])), last: eventstore.Position(binary.LittleEndian.Uint64(extra[20:])),
		}
		if b.length < int64(headerSize) || b.length > size-at {
			return nil, errNoBlock
		}
		blocks = append(blocks, b)
		at += b.length
	}
	return blocks, nil
}

// read returns the payloads of a block.
func (b block) read(file io.ReaderAt) (map[eventstore.Position][]byte, error) {
	decompressor, err := gzip.NewReader(io.NewSectionReader(file, b.at, b.length))
	if err != nil {
		return nil, fmt.Errorf("decompress a block: %w", err)
	}
	payloads := map[eventstore.Position][]byte{}
	for l, err := range readLines(decompressor) {
		if err != nil {
			return nil, err
		}
		payloads[l.Position] = l.Data
	}
	return payloads, nil
}

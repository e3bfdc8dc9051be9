package transfer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
)

// maxLine bounds a line of a file, in bytes. The largest payload takes a quarter of it.
const maxLine = 64 << 20

// errAltered answers for a file that is not what an export has written.
var errAltered = errors.New("the file is not whole, or was altered since it was exported; copy or export it again")

// writer writes a file: gzip over lines of JSON.
type writer struct {
	compressed *gzip.Writer
	key        Key
	hash       hash.Hash
	records    int
}

func newWriter(to io.Writer, key Key) *writer {
	compressed, err := gzip.NewWriterLevel(to, gzip.BestSpeed)
	if err != nil {
		panic(err) // only for a level that there is not
	}
	return &writer{compressed: compressed, key: key, hash: sha256.New()}
}

func (w *writer) write(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	w.hash.Write(line)
	w.records++
	_, err = w.compressed.Write(line)
	return err
}

// finish writes the last line and returns the hash of all others.
func (w *writer) finish() ([]byte, error) {
	sum := w.hash.Sum(nil)
	if err := w.write(record{End: &end{Records: w.records, SHA256: sum, MAC: w.key.mac(sum)}}); err != nil {
		return nil, err
	}
	return sum, w.compressed.Close()
}

// reader reads a file from its beginning to its end, once.
type reader struct {
	header Header
	sum    []byte // of the whole file, when it was read to its end

	key   Key
	lines *bufio.Scanner
	hash  hash.Hash
	read  int
}

// openReader reads the header.
func openReader(from io.Reader, key Key) (*reader, error) {
	const noExport = "the file is no export of a VoltRun"
	decompressed, err := gzip.NewReader(from)
	if err != nil {
		return nil, errors.New(noExport)
	}
	r := &reader{key: key, lines: bufio.NewScanner(decompressed), hash: sha256.New()}
	r.lines.Buffer(nil, maxLine)
	first, err := r.next()
	switch {
	case err != nil:
		return nil, err
	case first.Header == nil:
		return nil, errors.New(noExport)
	case first.Header.Format != Format:
		return nil, fmt.Errorf("the file is a %q, and this VoltRun reads %q; import it with a newer one", first.Header.Format, Format)
	case first.Header.KeyID != key.id():
		return nil, fmt.Errorf("the file was exported with another transfer key (%s) than this one (%s)", first.Header.KeyID, key.id())
	}
	r.header = *first.Header
	return r, nil
}

// records yields what follows the header. It ends with an error unless the file is whole and as it was exported: what came
// before counts only then.
func (r *reader) records() iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		for {
			before := r.hash.Sum(nil)
			rec, err := r.next()
			if err == nil && rec.End != nil {
				err = r.checkEnd(*rec.End, before)
				if err == nil {
					return
				}
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

func (r *reader) next() (record, error) {
	if !r.lines.Scan() {
		return record{}, r.broken()
	}
	var rec record
	if err := json.Unmarshal(r.lines.Bytes(), &rec); err != nil {
		return record{}, r.broken()
	}
	r.hash.Write(r.lines.Bytes())
	r.hash.Write([]byte{'\n'})
	r.read++
	return rec, nil
}

// broken tells why there is no line where one should be.
func (r *reader) broken() error {
	if err := r.lines.Err(); errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file ends in the middle (line %d); get it again", r.read+1)
	}
	return errAltered
}

// checkEnd checks the last line against everything before it.
func (r *reader) checkEnd(e end, sum []byte) error {
	if e.Records != r.read-1 || !bytes.Equal(e.SHA256, sum) || !hmac.Equal(e.MAC, r.key.mac(sum)) {
		return errAltered
	}
	if r.lines.Scan() || r.lines.Err() != nil {
		return errAltered
	}
	r.sum = sum
	return nil
}

// cursor stands on a record of a file.
type cursor struct {
	record record // empty at the end and after an error
	err    error  // why there is no record
	more   bool   // there is one

	pull func() (record, error, bool)
}

func newCursor(r *reader) (c *cursor, stop func()) {
	pull, stop := iter.Pull2(r.records())
	c = &cursor{pull: pull}
	c.advance()
	return c, stop
}

func (c *cursor) advance() {
	c.record, c.err, c.more = c.pull()
	if c.err != nil {
		c.record, c.more = record{}, false
	}
}

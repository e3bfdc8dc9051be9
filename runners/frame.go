package runners

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/voltrun/voltrun/domain"
)

// A frame is what travels between a worker and its shim: four bytes of length (big-endian, of all that follows), one byte
// of kind, the token of the invocation and a payload of any bytes.
//
// Requests go to descriptor 3: frameInit (a JSON initMessage) once, before the first frameInvoke (a line of JSON, then the
// input as it is). Answers come from descriptor 4: frameReady once, then for each invocation any number of pieces of what
// was printed and one frame that tells how it ended. The payload of that begins with stateClean or stateUnclean: whether
// the process may serve another one.
type frameKind byte

const (
	frameInit   frameKind = 'i'
	frameInvoke frameKind = 'c'

	frameReady   frameKind = 'r' // the interpreter has started
	frameStdout  frameKind = '1'
	frameStderr  frameKind = '2'
	frameOutput  frameKind = 'O' // what the handler returned
	frameError   frameKind = 'E' // a thrownError
	frameExit    frameKind = 'X' // the process is about to exit with this code
	framePending frameKind = 'P' // Node.js: nothing is left that could settle the handler's promise
	frameMemory  frameKind = 'M' // the memory limit was hit, and the language could say so
)

// ends tells whether the frame is an invocation's last.
func (k frameKind) ends() bool { return bytes.IndexByte([]byte("OEXPM"), byte(k)) >= 0 }

const (
	stateClean   = '+'
	stateUnclean = '-'
)

// token is drawn anew for each invocation and told to the shim alone, so that what a handler writes to descriptor 4 is not
// taken for an answer.
type token [16]byte

const (
	frameHead     = 4 + 1 + len(token{})
	maxPrintBytes = 64 << 10
)

var (
	errNoAnswer      = errors.New("the process closed its answer channel without an answer")
	errForeignAnswer = errors.New("something else than a frame was written to the answer channel")
	errLongAnswer    = errors.New("the answer is longer than an output may be")
)

// appendFrame appends the head of a frame whose payload, which the caller appends, has that many bytes.
func appendFrame(data []byte, kind frameKind, invocation token, payload int) []byte {
	data = binary.BigEndian.AppendUint32(data, uint32(frameHead-4+payload))
	data = append(data, byte(kind))
	return append(data, invocation[:]...)
}

// frame is one that was read.
type frame struct {
	kind    frameKind
	clean   bool   // of one that ends an invocation
	payload []byte // without the state; of one that ends no invocation it is valid only until the next frame is read
}

// frameReader reads what a shim answers. It never holds more than an output may have.
type frameReader struct{ *bufio.Reader }

// readBufferBytes holds what most invocations answer, in one piece.
const readBufferBytes = 8 << 10

func newFrameReader(r io.Reader) frameReader {
	return frameReader{bufio.NewReaderSize(r, readBufferBytes)}
}

// next reads a frame of an invocation. The error is errNoAnswer at the end, errForeignAnswer for what no shim writes, and
// errLongAnswer for what is too long; nothing can be read after one.
func (r frameReader) next(invocation token) (frame, error) {
	head, err := r.Peek(frameHead)
	if err != nil {
		return frame{}, errNoAnswer
	}
	kind, length := frameKind(head[4]), int64(binary.BigEndian.Uint32(head))-int64(frameHead-4)
	if token(head[5:]) != invocation || length < 0 {
		return frame{}, errForeignAnswer
	}
	_, _ = r.Discard(frameHead)
	switch {
	case kind.ends():
		return r.last(kind, length)
	case kind == frameReady && length == 0:
		return frame{kind: kind}, nil
	case (kind == frameStdout || kind == frameStderr) && length <= maxPrintBytes:
		text, err := r.piece(int(length))
		return frame{kind: kind, payload: text}, err
	}
	return frame{}, errForeignAnswer
}

// piece returns the next bytes, which stay in the buffer when they fit there.
func (r frameReader) piece(length int) ([]byte, error) {
	if length > r.Size() {
		return r.own(int64(length))
	}
	text, err := r.Peek(length)
	if err != nil {
		return nil, errNoAnswer
	}
	_, _ = r.Discard(length)
	return text, nil
}

// last reads the payload of a frame that ends an invocation.
func (r frameReader) last(kind frameKind, length int64) (frame, error) {
	if length > domain.MaxOutputBytes+1 {
		return frame{}, errLongAnswer
	}
	if length == 0 {
		return frame{}, errForeignAnswer
	}
	payload, err := r.own(length)
	if err != nil {
		return frame{}, err
	}
	return frame{kind: kind, clean: payload[0] == stateClean, payload: payload[1:]}, nil
}

// own reads bytes into memory of their own. What is long takes memory only as it comes.
func (r frameReader) own(length int64) ([]byte, error) {
	if length <= maxPrintBytes {
		payload := make([]byte, length)
		if _, err := io.ReadFull(r, payload); err != nil {
			return nil, errNoAnswer
		}
		return payload, nil
	}
	var payload bytes.Buffer
	if _, err := io.CopyN(&payload, r, length); err != nil {
		return nil, errNoAnswer
	}
	return payload.Bytes(), nil
}

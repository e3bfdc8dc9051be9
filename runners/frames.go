package runners

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/voltrun/voltrun/domain"
)

// A run's channel is descriptor 4 of its process. The shim writes frames to it: a line "<token> <kind> <length>" and as
// many bytes. What the interpreter itself prints comes in frames of their own kind, in the order in which it was
// printed and before the answer: two pipes have no order between them, one has. The answer comes last; one that is
// longer than a frame comes in parts.
//
// The token is drawn anew for each run and told to the shim alone, so that what a handler writes there is not taken for
// a frame.
const (
	frameStdout = string(domain.Stdout)
	frameStderr = string(domain.Stderr)
	framePart   = "part" // of the answer, whose last part has an answerKind
)

// maxFrameBytes bounds a whole frame. Linux writes as much into a pipe in one piece, so that the frames of several
// threads, and of a child that a handler forked, do not mix.
const maxFrameBytes = 4096

var (
	errNoAnswer      = errors.New("the process closed its channel without an answer")
	errForeignAnswer = errors.New("something else than a frame was written to the channel")
	errLongAnswer    = errors.New("the answer is longer than an output may be")
)

// receiveAnswer reads the channel until the answer, and hands what was printed to print. What comes after the answer is
// not read. It never holds more than an output may have.
func receiveAnswer(channel io.Reader, token string, print func(stream domain.LogStream, text []byte)) (answer, error) {
	frames := bufio.NewReaderSize(channel, 8*maxFrameBytes)
	var parts []byte
	for {
		kind, body, err := readFrame(frames, token)
		switch {
		case err != nil:
			return answer{}, err
		case kind == frameStdout, kind == frameStderr:
			print(domain.LogStream(kind), body)
			continue
		case len(parts)+len(body) > domain.MaxOutputBytes:
			return answer{}, errLongAnswer
		}
		parts = append(parts, body...)
		if kind != framePart {
			return answer{kind: answerKind(kind), body: parts}, nil
		}
	}
}

// readFrame reads one frame. Its body is valid until the next one is read.
func readFrame(r *bufio.Reader, token string) (kind string, body []byte, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil && len(line) == 0 {
		return "", nil, errNoAnswer
	}
	header := strings.Fields(string(line))
	if err != nil || len(header) != 3 || header[0] != token {
		return "", nil, errForeignAnswer
	}
	length, err := strconv.ParseUint(header[2], 10, 16)
	if err != nil || length > maxFrameBytes {
		return "", nil, errForeignAnswer
	}
	body, err = r.Peek(int(length))
	if err != nil {
		return "", nil, errForeignAnswer
	}
	_, err = r.Discard(int(length))
	return header[1], body, err
}

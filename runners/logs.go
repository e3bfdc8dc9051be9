package runners

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/voltrun/voltrun/domain"
)

// Limits of an execution's log. A longer line is split, what exceeds the log's limits is read and thrown away.
const (
	MaxLineBytes = 16 << 10
	MaxLogBytes  = 1 << 20
	MaxLogLines  = 20_000
)

// continuationMark ends a piece of a line whose rest follows as a line of its own.
const continuationMark = " … [line continues]"

// drainGrace is how long a pipe may stay open after the run's processes are gone: something escaped and holds it.
const drainGrace = 200 * time.Millisecond

// runLog turns what a process prints into lines. Its streams share the limits and the order.
type runLog struct {
	emit  func(domain.ExecutionLogLine)
	order printOrder

	mu          sync.Mutex
	bytes       int
	lines       int
	truncated   bool
	outOfMemory bool // stderr said so

	readers sync.WaitGroup
	pipes   []*os.File
}

// follow reads a pipe to its end in the background.
func (l *runLog) follow(stream domain.LogStream, pipe *os.File, token string) {
	l.pipes = append(l.pipes, pipe)
	l.readers.Go(func() {
		printed := newPrintedReader(&drainingPipe{File: pipe}, token)
		lines := lineSplitter{line: func(text []byte, mark string) { l.add(stream, text, mark) }}
		for {
			text, number, err := printed.next()
			if err != nil {
				break
			}
			l.order.deliver(number, func() { lines.write(text) })
		}
		l.order.end()
		lines.flush()
	})
}

// finish waits until everything that was printed is emitted. The processes must be gone.
func (l *runLog) finish() {
	for _, pipe := range l.pipes {
		_ = pipe.SetReadDeadline(time.Now().Add(drainGrace))
	}
	l.readers.Wait()
}

// drainingPipe reads a pipe to its end. When its deadline has passed, somebody still holds it open and may go on writing
// for ever: then it ends with what stands in the pipe, and at most what a pipe can hold.
type drainingPipe struct {
	*os.File
	late    bool
	drained int
}

const pipeCapacity = 1 << 20

func (p *drainingPipe) Read(buffer []byte) (int, error) {
	if !p.late {
		n, err := p.File.Read(buffer)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		p.late = true
		_ = p.SetReadDeadline(time.Time{}) // or the descriptor could not be read any more
	}
	n := p.readWaiting(buffer)
	p.drained += n
	if n == 0 || p.drained > pipeCapacity {
		return n, io.EOF
	}
	return n, nil
}

// readWaiting reads what stands in the pipe without waiting for more.
func (p *drainingPipe) readWaiting(buffer []byte) int {
	descriptor, err := p.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	_ = descriptor.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), buffer) // the pipe does not block: empty is an error
		return true
	})
	return max(n, 0)
}

func (l *runLog) add(stream domain.LogStream, text []byte, mark string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if stream == domain.Stderr && saysOutOfMemory(text) {
		l.outOfMemory = true
	}
	if l.truncated {
		return
	}
	l.bytes += len(text) + 1
	l.lines++
	if l.bytes > MaxLogBytes || l.lines > MaxLogLines {
		l.truncated = true
		stream, text, mark = domain.System, fmt.Appendf(nil,
			"The log ends here: an execution may log %d KiB in at most %d lines.", MaxLogBytes>>10, MaxLogLines), ""
	}
	l.emit(domain.ExecutionLogLine{Stream: stream, Text: printable(string(text)) + mark, At: time.Now().UTC()})
}

// ranOutOfMemory tells whether the process said on stderr that it had no memory left.
func (l *runLog) ranOutOfMemory() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.outOfMemory
}

// lastWords are what V8 and the C++ runtime under it say on stderr when they get no more memory; the last is a check of
// V8's that the kernel gave it a page.
var lastWords = [][]byte{
	[]byte("heap out of memory"), []byte("process out of memory"), []byte("std::bad_alloc"), []byte("Check failed: reservation_.SetPermissions"),
}

func saysOutOfMemory(line []byte) bool {
	return slices.ContainsFunc(lastWords, func(words []byte) bool { return bytes.Contains(line, words) })
}

// printable replaces what cannot be stored as text: bytes that are not UTF-8, and NUL.
func printable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// lineSplitter cuts a stream of bytes into lines, and lines that are too long into pieces.
type lineSplitter struct {
	line    func(text []byte, mark string)
	pending []byte
}

func (s *lineSplitter) write(data []byte) {
	for len(data) > 0 {
		head, rest, complete := bytes.Cut(data, []byte{'\n'})
		s.pending, data = append(s.pending, head...), rest
		for len(s.pending) > MaxLineBytes {
			n := runeBoundary(s.pending, MaxLineBytes)
			s.line(s.pending[:n], continuationMark)
			s.pending = append(s.pending[:0], s.pending[n:]...)
		}
		if complete {
			s.end()
		}
	}
}

// flush delivers a last line that has no newline.
func (s *lineSplitter) flush() {
	if len(s.pending) > 0 {
		s.end()
	}
}

func (s *lineSplitter) end() {
	s.line(bytes.TrimSuffix(s.pending, []byte{'\r'}), "")
	s.pending = s.pending[:0]
}

// runeBoundary is the last place up to n at which text can be cut without cutting a character.
func runeBoundary(text []byte, n int) int {
	for back := 0; back < utf8.UTFMax; back++ {
		if utf8.RuneStart(text[n-back]) {
			return n - back
		}
	}
	return n
}

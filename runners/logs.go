package runners

import (
	"bytes"
	"errors"
	"fmt"
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

// drainGrace is how long a pipe may stay open after its process group is gone: something escaped and holds it.
const drainGrace = 200 * time.Millisecond

// runLog turns what a process prints into lines. Its streams share the limits and the order.
type runLog struct {
	emit func(domain.ExecutionLogLine)

	mu          sync.Mutex
	bytes       int
	lines       int
	truncated   bool
	outOfMemory bool // stderr said so

	readers sync.WaitGroup
	pipes   []*os.File
}

// follow reads a pipe to its end in the background.
func (l *runLog) follow(stream domain.LogStream, pipe *os.File) {
	l.pipes = append(l.pipes, pipe)
	l.readers.Go(func() {
		lines := lineSplitter{line: func(text []byte, mark string) { l.add(stream, text, mark) }}
		buffer := make([]byte, 32<<10)
		for {
			n, err := pipe.Read(buffer)
			lines.write(buffer[:n])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				lines.write(readWaiting(pipe))
			}
			if err != nil {
				break
			}
		}
		lines.flush()
	})
}

// finish waits until everything that was printed is emitted. The process group must be gone.
func (l *runLog) finish() {
	for _, pipe := range l.pipes {
		_ = pipe.SetReadDeadline(time.Now().Add(drainGrace))
	}
	l.readers.Wait()
}

// readWaiting returns what stands in a pipe that somebody still holds open, without waiting for more: at most what a
// pipe can hold, because the other end may go on writing for ever.
func readWaiting(pipe *os.File) []byte {
	const pipeCapacity = 1 << 20
	_ = pipe.SetReadDeadline(time.Time{})
	descriptor, err := pipe.SyscallConn()
	if err != nil {
		return nil
	}
	var waiting []byte
	buffer := make([]byte, 32<<10)
	for n := 1; n > 0 && len(waiting) < pipeCapacity; {
		_ = descriptor.Read(func(fd uintptr) bool {
			n, _ = syscall.Read(int(fd), buffer) // the pipe does not block: empty is an error
			return true
		})
		waiting = append(waiting, buffer[:max(n, 0)]...)
	}
	return waiting
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

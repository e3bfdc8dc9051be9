package runners

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/voltrun/voltrun/domain"
)

// Limits of an execution's log, as it is kept. A longer line is split, what exceeds the log's limits is read and thrown away.
const (
	MaxLineBytes = 16 << 10
	MaxLogBytes  = 1 << 20
	MaxLogLines  = 20_000
)

// continuationMark ends a piece of a line whose rest follows as a line of its own.
const continuationMark = " … [line continues]"

// runLog turns what a worker prints into lines of the invocation that runs. All of its streams share the limits.
//
// What the interpreter printed itself comes from the shim, in order; what reaches the process's descriptors in other ways,
// as from child processes, comes on its own and has no order against the rest.
type runLog struct {
	mu          sync.Mutex
	emit        func(domain.ExecutionLogLine) // nil while no invocation runs: what comes then is nobody's
	bytes       int
	lines       int
	truncated   bool
	outOfMemory bool // stderr said so

	printed, raw struct{ stdout, stderr lineSplitter }
}

func newRunLog() *runLog {
	l := &runLog{}
	for _, streams := range []*struct{ stdout, stderr lineSplitter }{&l.printed, &l.raw} {
		streams.stdout.line = func(text []byte, mark string) { l.add(domain.Stdout, text, mark) }
		streams.stderr.line = func(text []byte, mark string) { l.add(domain.Stderr, text, mark) }
	}
	return l
}

// begin makes the log that of a new invocation.
func (l *runLog) begin(emit func(domain.ExecutionLogLine)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emit, l.bytes, l.lines, l.truncated, l.outOfMemory = emit, 0, 0, false, false
}

// write takes text of one stream. It returns when the invocation's emit has taken every line of it.
func (l *runLog) write(to *lineSplitter, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.emit != nil {
		to.write(text)
	}
}

// end emits the last lines, which have no newline. Nothing is emitted after it has returned.
func (l *runLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, stream := range []*lineSplitter{&l.printed.stdout, &l.printed.stderr, &l.raw.stdout, &l.raw.stderr} {
		stream.flush()
	}
	l.emit = nil
}

// add is called with l.mu locked.
func (l *runLog) add(stream domain.LogStream, text []byte, mark string) {
	if stream == domain.Stderr && saysOutOfMemory(text) {
		l.outOfMemory = true
	}
	if l.truncated {
		return
	}
	line := printable(string(text))
	l.bytes += len(line) + 1
	l.lines++
	if l.bytes > MaxLogBytes || l.lines > MaxLogLines {
		l.truncated = true
		stream, mark = domain.System, ""
		line = fmt.Sprintf("The log ends here: an execution may log %d KiB in at most %d lines.", MaxLogBytes>>10, MaxLogLines)
	}
	l.emit(domain.ExecutionLogLine{Stream: stream, Text: line + mark, At: time.Now().UTC()})
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
		if complete && len(s.pending) == 0 && len(head) <= MaxLineBytes {
			s.line(bytes.TrimSuffix(head, []byte{'\r'}), "")
			data = rest
			continue
		}
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

package runners

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxPrintBytes bounds what is numbered as one, with its head. Linux writes as much into a pipe in one piece, so that
// nobody else's text gets into it.
const maxPrintBytes = 4096

// notNumbered is the number of what the interpreter did not print itself.
const notNumbered = -1

// printedReader reads what comes from one of a run's two output pipes. Two pipes have no order between them, so the
// shims number what the interpreter prints: "\x00<token> <number> <length>\n" stands before it, and the numbers of both
// pipes are one sequence. What others write to the pipe, such as child processes, has no number and its place between
// what has one. The token is the run's: nothing that a handler prints is taken for such a head by accident.
type printedReader struct {
	*bufio.Reader
	mark []byte // how a head begins
}

func newPrintedReader(pipe io.Reader, token string) *printedReader {
	return &printedReader{Reader: bufio.NewReaderSize(pipe, 8*maxPrintBytes), mark: []byte("\x00" + token + " ")}
}

// next returns the next piece, which is valid until the one after it is read.
func (r *printedReader) next() (text []byte, number int64, err error) {
	if _, err := r.Peek(1); err != nil {
		return nil, notNumbered, err
	}
	buffered, _ := r.Peek(r.Buffered())
	if plain := r.beforeMark(buffered); plain > 0 {
		return r.take(plain), notNumbered, nil
	}
	if start, _ := r.Peek(len(r.mark)); !bytes.Equal(start, r.mark) {
		return r.take(1), notNumbered, nil // it only began like one
	}
	text, number = r.numbered()
	return text, number, nil
}

// beforeMark returns how much of data comes before a mark, or before what may become one when more is read.
func (r *printedReader) beforeMark(data []byte) int {
	if at := bytes.Index(data, r.mark); at >= 0 {
		return at
	}
	if at := bytes.LastIndexByte(data, r.mark[0]); at >= 0 && bytes.HasPrefix(r.mark, data[at:]) {
		return at
	}
	return len(data)
}

// numbered reads a head and what belongs to it. What is no head after all is text like any other.
func (r *printedReader) numbered() (text []byte, number int64) {
	head, _ := r.ReadSlice('\n')
	fields := strings.Fields(string(head[len(r.mark):]))
	if len(fields) != 2 {
		return head, notNumbered
	}
	number, err := strconv.ParseInt(fields[0], 10, 64)
	length, lengthErr := strconv.ParseUint(fields[1], 10, 16)
	if err != nil || lengthErr != nil || length > maxPrintBytes {
		return head, notNumbered
	}
	text, _ = r.Peek(int(length))
	return r.take(len(text)), number
}

func (r *printedReader) take(n int) []byte {
	text, _ := r.Peek(n)
	_, _ = r.Discard(n)
	return text
}

// printOrder brings what the readers of a run's two pipes read into the order of its numbers. What has no number is never
// held up.
//
// A reader waits for its turn as long as the other may still come with a smaller number: what has one was written before,
// and stands in the other's pipe at the latest now. So it is missing only when somebody tampered with the shim.
type printOrder struct {
	mu         sync.Mutex
	next       int64
	delivering int           // readers that have their turn
	waiting    []int64       // the numbers of the readers that wait for it
	ended      int           // readers that have read everything
	moved      chan struct{} // closed when next moves; nil when nobody waits for it
}

const readersOfARun = 2

// missingGrace is how long a reader waits for a number while the other one has nothing to read. It is no longer than that
// which a busy machine needs to let the other reader run.
const missingGrace = 5 * time.Second

// deliver delivers a piece when it is its turn.
func (o *printOrder) deliver(number int64, deliver func()) {
	o.mu.Lock()
	for number > o.next {
		o.await(number)
	}
	o.delivering++
	o.mu.Unlock()
	deliver()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.delivering--
	o.moveTo(max(o.next, number+1))
}

// end says that a reader has read everything.
func (o *printOrder) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended++
	o.skipMissing()
}

// await waits until next moves, with o.mu unlocked meanwhile.
func (o *printOrder) await(number int64) {
	o.waiting = append(o.waiting, number)
	if o.moved == nil {
		o.moved = make(chan struct{})
	}
	next, moved := o.next, o.moved
	o.skipMissing()
	o.mu.Unlock()
	late := false
	select {
	case <-moved:
	case <-time.After(missingGrace):
		late = true
	}
	o.mu.Lock()
	at := slices.Index(o.waiting, number)
	o.waiting = slices.Delete(o.waiting, at, at+1)
	if late && o.next == next && o.delivering == 0 {
		o.moveTo(number)
	}
}

// skipMissing gives up the numbers that nobody can bring any more, because every reader waits or has ended.
func (o *printOrder) skipMissing() {
	if len(o.waiting) > 0 && len(o.waiting)+o.ended == readersOfARun {
		o.moveTo(max(o.next, slices.Min(o.waiting)))
	}
}

func (o *printOrder) moveTo(next int64) {
	if next != o.next && o.moved != nil {
		close(o.moved)
		o.moved = nil
	}
	o.next = next
}

package runners

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeCapacity is more than a pipe can hold: who writes on and on is not waited for.
const pipeCapacity = 1 << 20

// exitGrace is how long a pipe may stay open after the processes that had it are gone: something escaped and holds it.
const exitGrace = 200 * time.Millisecond

// outputPipe reads a worker's stdout or stderr, for as long as the worker lives.
type outputPipe struct {
	conn    syscall.RawConn
	deliver func(text []byte)

	mu     sync.Mutex // held from a read to the end of its delivery
	buffer [4 << 10]byte
}

func newOutputPipe(pipe *os.File, deliver func([]byte)) (*outputPipe, error) {
	conn, err := pipe.SyscallConn()
	return &outputPipe{conn: conn, deliver: deliver}, err
}

// follow delivers what comes until nobody can write to the pipe any more, or it is closed.
func (p *outputPipe) follow() {
	_ = p.conn.Read(func(fd uintptr) (over bool) {
		for {
			switch p.take(int(fd)) {
			case pipeEmpty:
				return false
			case pipeOver:
				return true
			}
		}
	})
}

// drain delivers what stands in the pipe, or was read by follow before.
func (p *outputPipe) drain() {
	_ = p.conn.Control(func(fd uintptr) { p.take(int(fd)) })
}

type pipeState int

const (
	pipeEmpty pipeState = iota // for now
	pipeFull                   // there is more than a pipe can hold
	pipeOver                   // nothing can come any more
)

// take delivers without waiting for more, and not for ever.
func (p *outputPipe) take(fd int) pipeState {
	p.mu.Lock()
	defer p.mu.Unlock()
	for taken := 0; taken < pipeCapacity; {
		n, err := syscall.Read(fd, p.buffer[:])
		switch {
		case n > 0:
			p.deliver(p.buffer[:n])
			taken += n
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return pipeEmpty
		default:
			return pipeOver
		}
	}
	return pipeFull
}

// answerPipe reads a worker's answers. When its deadline has passed, the worker is gone but somebody still holds the pipe
// open and may go on writing for ever: then it ends with what stands in the pipe, and at most what a pipe can hold.
type answerPipe struct {
	*os.File
	late    bool
	drained int
}

func (p *answerPipe) Read(buffer []byte) (int, error) {
	if !p.late {
		n, err := p.File.Read(buffer)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		p.late = true
	}
	n := readWaiting(p.File, buffer)
	p.drained += n
	if n == 0 || p.drained > pipeCapacity {
		return n, io.EOF
	}
	return n, nil
}

// readWaiting reads what stands in a pipe without waiting for more.
func readWaiting(pipe *os.File, buffer []byte) (n int) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return 0
	}
	_ = conn.Control(func(fd uintptr) { n, _ = syscall.Read(int(fd), buffer) })
	return max(n, 0)
}

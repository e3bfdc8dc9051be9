package runners

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// worker is an interpreter in its sandbox. It serves one version of one function, one invocation at a time, until it is
// retired.
type worker struct {
	shape    shape
	slot     *slot
	instance sandbox.Instance
	log      *runLog
	outputs  [2]*outputPipe
	frames   frameReader
	ready    bool   // the interpreter has said so
	request  []byte // what is written next, and between invocations the memory for it
	deadline *time.Timer
	stopped  atomic.Int32 // why the process was killed from here: a stopReason
	cpu      time.Duration
	last     atomic.Pointer[sandbox.Usage] // right before it was killed
	began    time.Time                     // when it was taken for the invocation that runs

	resting sync.Mutex // held while it is frozen or thawed
	frozen  bool

	// The pool's, and guarded by its lock.
	key      workerKey
	state    workerState
	retired  bool  // it serves nobody after the invocation that runs
	launched bool  // it has its process
	used     bool  // it has run something
	memory   int64 // bytes, when it was last looked at
	since    time.Time
	rest     *time.Timer
	next     *worker
}

type stopReason = int32

const (
	stoppedByTimeout stopReason = iota + 1
	stoppedByServer
)

// stop kills the process. The first reason is the one that counts.
func (w *worker) stop(reason stopReason) {
	if w.stopped.CompareAndSwap(0, reason) {
		w.kill()
	}
}

// kill notes what the process used, which cannot be seen afterwards everywhere.
func (w *worker) kill() {
	usage := w.instance.Usage()
	w.last.CompareAndSwap(nil, &usage)
	w.instance.Kill()
}

// outcome is how an invocation ended, and what became of its worker.
type outcome struct {
	verdict   verdict
	measures  measures
	memory    int64 // bytes that the worker has now
	reusable  bool
	untouched bool // the process took nothing of the invocation before its end: another one may be asked
}

// invoke runs the function once. ctx ends it early, and with it the process.
func (w *worker) invoke(ctx context.Context, inv Invocation, emit func(domain.ExecutionLogLine)) outcome {
	w.log.begin(emit)
	w.instance.ResetPeak()
	timeout := time.Duration(inv.Function.TimeoutSec) * time.Second
	w.deadline.Reset(timeout)
	unhook := context.AfterFunc(ctx, func() { w.stop(stoppedByServer) })

	sent, answer, err := w.exchange(inv, w.began.Add(timeout))
	duration := time.Since(w.began)
	inTime, unhooked := w.deadline.Stop(), unhook()
	var o outcome
	if err == nil {
		o = w.answered(inv.Function, answer)
		o.reusable = o.reusable && inTime && unhooked
	} else {
		o = w.ended(inv.Function, sent, err)
	}
	w.log.end()
	o.measures.duration, o.measures.cold = duration, !w.used
	return o
}

// exchange sends an invocation and reads to its last frame. It returns how many bytes the process was sent.
func (w *worker) exchange(inv Invocation, deadline time.Time) (int, frame, error) {
	var mine token
	_, _ = rand.Read(mine[:])
	sent, err := w.send(inv, mine, deadline)
	if err == nil {
		err = w.awaitReady()
	}
	for err == nil {
		var answer frame
		if answer, err = w.frames.next(mine); err != nil {
			break
		}
		switch answer.kind {
		case frameStdout:
			w.log.write(&w.log.printed.stdout, answer.payload)
		case frameStderr:
			w.log.write(&w.log.printed.stderr, answer.payload)
		case frameReady:
			err = errForeignAnswer
		default:
			return sent, answer, nil
		}
	}
	return sent, frame{}, err
}

// maxTogether is up to how many bytes an input is copied, so that all is written at once.
const maxTogether = 32 << 10

// send writes what the process needs to know of the invocation; before the first one, that is also the function.
func (w *worker) send(inv Invocation, mine token, deadline time.Time) (int, error) {
	const most = len(`{"execution_id":"00000000-0000-0000-0000-000000000000","deadline_ms":-9223372036854775808}`)
	head := make([]byte, 0, most)
	head = append(append(append(head, `{"execution_id":"`...), inv.ExecutionID.String()...), `","deadline_ms":`...)
	head = append(strconv.AppendInt(head, deadline.UnixMilli(), 10), "}\n"...)

	data := append(appendFrame(w.request, frameInvoke, mine, len(head)+len(inv.Input)), head...)
	large := len(inv.Input) > maxTogether
	if !large {
		data = append(data, inv.Input...)
	}
	w.request = data[:0]
	sent, err := w.instance.Requests().Write(data)
	if err == nil && large {
		var more int
		more, err = w.instance.Requests().Write(inv.Input)
		sent += more
	}
	return sent, err
}

// answered judges an invocation that was answered.
func (w *worker) answered(f domain.Function, answer frame) outcome {
	for _, output := range w.outputs {
		output.drain()
	}
	usage := w.instance.Usage()
	o := outcome{
		verdict:  answerVerdict(f, answer, w.slot.conceal),
		measures: measures{cpu: usage.CPU - w.cpu, peak: usage.PeakBytes},
		memory:   usage.MemoryBytes,
		reusable: answer.clean && w.frames.Buffered() == 0 && w.stopped.Load() == 0,
	}
	w.cpu = usage.CPU
	return o
}

// descriptorGrace is how long a process whose answers have ended may take to end itself.
const descriptorGrace = time.Second

// ended judges an invocation whose worker did not answer, after it has ended the process.
func (w *worker) ended(f domain.Function, sent int, reason error) outcome {
	broken := errors.Is(reason, errForeignAnswer) || errors.Is(reason, errLongAnswer)
	closed := false
	if broken || !w.goneWithin(descriptorGrace) {
		closed = !broken && w.stopped.Load() == 0
		w.kill()
	}
	exit := w.instance.Exit()
	for _, output := range w.outputs {
		output.drain()
	}
	o := outcome{measures: w.finalMeasures(exit)}
	switch stopped := w.stopped.Load(); {
	case errors.Is(reason, errLongAnswer):
		o.verdict = longAnswerVerdict
	case broken:
		o.verdict = foreignAnswerVerdict
	case stopped == stoppedByTimeout:
		o.verdict = timeoutVerdict(f)
	case stopped == stoppedByServer:
		o.verdict = stoppedVerdict
	case closed && !exit.OutOfMemory: // else it was on its way to its end, which takes a while with much to free
		o.verdict = closedAnswerVerdict
	default:
		o.verdict = exitVerdict(f, exit, w.log.ranOutOfMemory())
	}
	o.untouched = w.stopped.Load() == 0 && waitingIn(w.instance.Requests()) == sent
	return o
}

func (w *worker) goneWithin(grace time.Duration) bool {
	select {
	case <-w.instance.Done():
		return true
	case <-time.After(grace):
		return false
	}
}

func (w *worker) finalMeasures(exit sandbox.Exit) measures {
	m := measures{cpu: exit.Usage.CPU - w.cpu, peak: exit.Usage.PeakBytes}
	if last := w.last.Load(); last != nil {
		m.cpu, m.peak = max(m.cpu, last.CPU-w.cpu), max(m.peak, last.PeakBytes)
	}
	return m
}

// fit tells whether an idle worker can take an invocation: it lives and has written nothing that nobody asked for.
func (w *worker) fit() bool {
	w.thaw()
	select {
	case <-w.instance.Done():
		return false
	default:
	}
	return w.frames.Buffered() == 0 && readWaiting(w.instance.Answers(), make([]byte, 1)) == 0
}

func (w *worker) thaw() {
	w.resting.Lock()
	defer w.resting.Unlock()
	if w.frozen {
		w.frozen = w.instance.Freeze(false) != nil
	}
}

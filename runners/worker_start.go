package runners

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// shape is what is settled when a process starts. Workers of the same shape differ only in the code that they get later.
type shape struct {
	interpreter Interpreter
	memoryMB    int
	egress      bool
}

// launcher starts workers.
type launcher struct {
	driver     sandbox.Driver
	workspaces *workspaces
	limits     sandbox.Limits // without the memory, which is the shape's
}

// Where a worker finds the shims and its code, when its sandbox has paths of its own.
const (
	shimsInside = "/voltrun"
	codeInside  = "/function"
)

// preheated makes the shim do at the start what the first invocation would wait for.
const preheated = "stem"

// start starts the process of w, which has no function yet. It returns before the interpreter is ready. onExit is called
// when the process is over. After an error w must be closed as well.
func (l *launcher) start(ctx context.Context, w *worker, onExit func(), shimArguments ...string) error {
	code, shims := "", l.workspaces.shims()
	if l.driver.OwnPaths() {
		code, shims = codeInside, shimsInside
	}
	slot, err := l.workspaces.newSlot(code)
	if err != nil {
		return fmt.Errorf("make a worker's folder: %w", err)
	}
	w.slot = slot
	spec := l.spec(w.shape, shims, shimArguments)
	spec.Mounts = append(spec.Mounts, sandbox.Mount{Source: slot.folder, Target: slot.inside},
		sandbox.Mount{Source: l.workspaces.shims(), Target: shims})
	instance, err := l.driver.Start(ctx, spec)
	if err != nil {
		return fmt.Errorf("start a worker's process: %w", err)
	}
	w.instance = instance
	return w.connect(onExit)
}

// nodeHeadroomMB is what Node.js may have beside memory_mb where each process is limited on its own, by the memory that it
// reserves. With less than 96, V8 now and then dies of a segmentation fault in its own garbage collection instead of saying
// that its heap is full.
const nodeHeadroomMB = 128

func (l *launcher) spec(s shape, shims string, shimArguments []string) sandbox.Spec {
	limits := l.limits
	limits.MemoryMB = s.memoryMB
	argv := []string{s.interpreter.Path, "-I", "-B", filepath.Join(shims, filepath.Base(pythonShim))}
	if !s.interpreter.Python {
		argv = []string{s.interpreter.Path, fmt.Sprintf("--max-old-space-size=%d", s.memoryMB*4/5), filepath.Join(shims, filepath.Base(nodeShim))}
		if l.driver.Enforcement().Limits["memory"] != sandbox.Hard {
			limits.MemoryMB += nodeHeadroomMB
		}
	}
	spec := sandbox.Spec{
		Argv: append(argv, shimArguments...), Env: baseEnvironment(s.interpreter.Path), Limits: limits, Egress: s.egress,
	}
	if prefix := s.interpreter.Prefix; !strings.HasPrefix(prefix+"/", "/usr/") {
		spec.Mounts = []sandbox.Mount{{Source: prefix, Target: prefix}} // its libraries are looked for by that path
	}
	return spec
}

// baseEnvironment is everything that a function's process inherits: nothing of the server's own environment, which
// holds secrets and variables that make interpreters slow.
func baseEnvironment(interpreter string) []string {
	return []string{"PATH=" + filepath.Dir(interpreter) + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TZ=UTC", "USER=function"}
}

// connect makes everything by which the worker talks to its process.
func (w *worker) connect(onExit func()) (err error) {
	w.log = newRunLog()
	stdout, err := newOutputPipe(w.instance.Stdout(), func(text []byte) { w.log.write(&w.log.raw.stdout, text) })
	if err != nil {
		return err
	}
	stderr, err := newOutputPipe(w.instance.Stderr(), func(text []byte) { w.log.write(&w.log.raw.stderr, text) })
	if err != nil {
		return err
	}
	w.outputs = [2]*outputPipe{stdout, stderr}
	w.frames = newFrameReader(&answerPipe{File: w.instance.Answers()})
	w.deadline = time.AfterFunc(time.Hour, func() { w.stop(stoppedByTimeout) })
	w.deadline.Stop()
	go stdout.follow()
	go stderr.follow()
	go w.awaitExit(onExit)
	return nil
}

// awaitExit lets nobody wait for a process that is gone.
func (w *worker) awaitExit(onExit func()) {
	<-w.instance.Done()
	soon := time.Now().Add(exitGrace)
	_ = w.instance.Answers().SetReadDeadline(soon)
	_ = w.instance.Requests().SetWriteDeadline(soon)
	onExit()
}

// bootTimeout is generous: a busy host takes its time.
const bootTimeout = 30 * time.Second

// boot waits until the interpreter is ready.
func (w *worker) boot() error {
	w.deadline.Reset(bootTimeout)
	defer w.deadline.Stop()
	return w.awaitReady()
}

func (w *worker) awaitReady() error {
	for !w.ready {
		answer, err := w.frames.next(token{})
		if err == nil && answer.kind != frameReady {
			err = errForeignAnswer
		}
		if err != nil {
			return err
		}
		w.ready = true
	}
	return nil
}

// assign gives the worker its function.
func (w *worker) assign(f domain.Function) error {
	var owner *syscall.Credential
	if owned, ok := w.instance.(interface{ Owner() *syscall.Credential }); ok {
		owner = owned.Owner()
	}
	about, err := w.slot.fill(f, owner)
	if err != nil {
		return fmt.Errorf("hand the code over: %w", err)
	}
	message, err := json.Marshal(about)
	if err != nil {
		return err
	}
	w.request = append(appendFrame(w.request[:0], frameInit, token{}, len(message)), message...)
	return nil
}

// close ends the process and lets go of everything that it had.
func (w *worker) close() error {
	var err error
	if w.instance != nil {
		w.instance.Kill()
		err = w.instance.Close()
	}
	if w.slot != nil {
		err = errors.Join(err, w.slot.remove())
	}
	return err
}

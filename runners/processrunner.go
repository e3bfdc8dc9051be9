package runners

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// ProcessRunner runs each handler in a process of its own, started for the run and gone after it. As root it runs them
// as an unprivileged user. It bounds their time, memory, output and log, but it is no sandbox: they reach the network
// and what their user may read.
type ProcessRunner struct {
	runtimes   *Runtimes
	workspaces *workspaces
	as         *syscall.Credential
}

// NewProcessRunner prepares a folder for the runs under the system's temporary folder. Close removes it.
func NewProcessRunner(runtimes *Runtimes) (*ProcessRunner, error) {
	as := functionUser()
	workspaces, err := newWorkspaces(as)
	if err != nil {
		return nil, fmt.Errorf("prepare the folder that functions run in: %w", err)
	}
	return &ProcessRunner{runtimes: runtimes, workspaces: workspaces, as: as}, nil
}

// Close removes the runner's folder. Nothing may run any more.
func (r *ProcessRunner) Close() error { return r.workspaces.close() }

// Run implements Runner.
func (r *ProcessRunner) Run(ctx context.Context, inv Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
	interpreter, err := r.runtimes.Resolve(inv.Function.Runtime)
	if err != nil {
		return failed(domain.ErrorRuntimeUnavailable, err.Error()).event(0, 0)
	}
	folder, err := r.workspaces.create(inv.Function)
	if err != nil {
		return internalFailure(ctx, inv, "prepare the folder of a run", err)
	}
	defer folder.remove()

	run := &processRun{
		Invocation: inv, folder: folder, as: r.as, started: time.Now(), token: rand.Text(),
		timeout: time.Duration(inv.Function.TimeoutSec) * time.Second,
	}
	run.process, err = startProcess(r.command(interpreter, run), r.as)
	if err != nil {
		return internalFailure(ctx, inv, "start a handler's process", err)
	}
	return run.follow(ctx, emit)
}

func internalFailure(ctx context.Context, inv Invocation, what string, err error) domain.Event {
	slog.ErrorContext(ctx, "a function could not be run", "execution", inv.ExecutionID, "function", inv.Function.ID, "doing", what, "error", err)
	return failed(domain.ErrorInternal, "VoltRun could not start the function. Run it again; if that does not help, tell the operator.").event(0, 0)
}

// launch lowers the limits of the process that then becomes the interpreter: no core files, and as much private
// writable memory as it is given in KiB. Only the process itself can do this, and every shell can.
const launch = `ulimit -c 0; ulimit -d "$0"; exec "$@"`

// nodeHeadroomMB is what Node.js may have beside memory_mb, most of which bounds V8's heap. With less than 96, V8 now
// and then dies of a segmentation fault in its own garbage collection instead of saying that its heap is full.
const nodeHeadroomMB = 128

func (r *ProcessRunner) command(i Interpreter, run *processRun) *exec.Cmd {
	memory := run.Function.MemoryMB
	limit, args := memory, []string{i.Path, "-I", "-B", r.workspaces.shim(pythonShim)}
	if !i.Python {
		limit = memory + nodeHeadroomMB
		args = []string{i.Path, fmt.Sprintf("--max-old-space-size=%d", memory*4/5), r.workspaces.shim(nodeShim)}
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", launch, strconv.Itoa(limit << 10)}, args...)...)
	cmd.Dir = run.folder.tmp
	cmd.Env = append(baseEnvironment(i.Path), run.marker(), "HOME="+run.folder.tmp, "TMPDIR="+run.folder.tmp)
	return cmd
}

// baseEnvironment is everything that a function's process inherits: nothing of the server's own environment, which
// holds secrets and variables that make interpreters slow.
func baseEnvironment(interpreter string) []string {
	return []string{"PATH=" + filepath.Dir(interpreter) + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TZ=UTC", "USER=function"}
}

// request is what a shim reads from descriptor 3, as one line of JSON.
type request struct {
	Token      string          `json:"token"`
	EntryPoint string          `json:"entry_point"`
	Export     string          `json:"export"`
	File       string          `json:"file"`
	ModuleFile string          `json:"module_file"`
	Display    string          `json:"display"` // what to call the file in a traceback
	Input      json.RawMessage `json:"input"`
	Context    requestContext  `json:"context"`
}

type requestContext struct {
	ExecutionID     uuid.UUID `json:"execution_id"`
	FunctionName    string    `json:"function_name"`
	FunctionVersion string    `json:"function_version"`
	MemoryMB        int       `json:"memory_mb"`
	DeadlineMS      int64     `json:"deadline_ms"` // Unix time
}

// processRun is one run on its way.
type processRun struct {
	Invocation
	folder  *workspace
	as      *syscall.Credential
	token   string
	started time.Time
	timeout time.Duration
	process *process
}

// marker stands in the environment of everything that the run starts.
func (r *processRun) marker() string { return "VOLTRUN_EXECUTION_ID=" + r.ExecutionID.String() }

// follow sees a started process through to its end.
func (r *processRun) follow(ctx context.Context, emit func(domain.ExecutionLogLine)) domain.Event {
	p := r.process
	defer p.close()
	log := &runLog{emit: emit}
	log.follow(domain.Stdout, p.stdout)
	log.follow(domain.Stderr, p.stderr)

	decide := r.await(ctx)
	duration := time.Since(r.started)
	memory := peakMemory(p.pid) // while it lives: the shims stand still after their answer
	p.kill()
	<-p.exited
	killStrays(r.marker(), r.as)
	log.finish()
	if memory == 0 {
		memory = exitMemory(p.state)
	}
	return decide(log).event(duration, int((memory+1<<20-1)>>20))
}

// await returns, when the run is over in one way or another, how to judge it once its log is complete.
func (r *processRun) await(ctx context.Context) func(*runLog) verdict {
	answers := make(chan func(*runLog) verdict, 1)
	go r.send()
	go func() { answers <- r.receive() }()
	timer := time.NewTimer(time.Until(r.started.Add(r.timeout)))
	defer timer.Stop()

	select {
	case decide := <-answers:
		return decide
	case <-r.process.exited:
		_ = r.process.answer.SetReadDeadline(time.Now().Add(drainGrace))
		return <-answers // it may have answered just before
	case <-timer.C:
		return func(*runLog) verdict {
			return failed(domain.ErrorTimeout, fmt.Sprintf("The function ran longer than its limit of %d s and was stopped.", r.Function.TimeoutSec))
		}
	case <-ctx.Done():
		return func(*runLog) verdict {
			return failed(domain.ErrorWorkerStopped, "The server was stopped before the function ended. Run it again.")
		}
	}
}

func (r *processRun) send() {
	f := r.Function
	_, export, _ := strings.Cut(f.EntryPoint, ".")
	line, err := json.Marshal(request{
		Token: r.token, EntryPoint: f.EntryPoint, Export: export, Input: r.Input,
		File: r.folder.file, ModuleFile: r.folder.moduleFile, Display: filepath.Base(r.folder.file),
		Context: requestContext{
			ExecutionID: r.ExecutionID, FunctionName: f.Name, FunctionVersion: strconv.Itoa(f.Version),
			MemoryMB: f.MemoryMB, DeadlineMS: r.started.Add(r.timeout).UnixMilli(),
		},
	})
	if err == nil {
		_, _ = r.process.request.Write(append(line, '\n')) // a process that does not read will not answer either
	}
}

func (r *processRun) receive() func(*runLog) verdict {
	a, err := readAnswer(r.process.answer, r.token)
	if errors.Is(err, errNoAnswer) {
		<-r.process.exited // how it ends says why
	}
	return func(log *runLog) verdict {
		switch {
		case errors.Is(err, errLongAnswer):
			return failed(domain.ErrorOutputTooLarge,
				fmt.Sprintf("What the handler returned must be at most %d bytes of JSON, but has more.", domain.MaxOutputBytes))
		case errors.Is(err, errForeignAnswer):
			return foreignAnswerVerdict
		case err != nil:
			return r.exitVerdict(log)
		}
		return r.answerVerdict(a)
	}
}

func (r *processRun) answerVerdict(a answer) verdict {
	switch a.kind {
	case answerOutput:
		return outputVerdict(a.body)
	case answerError:
		return errorVerdict(a.body, r.folder.conceal)
	case answerMemory:
		return r.outOfMemory()
	case answerExit:
		return exitedWith(string(bytes.TrimSpace(a.body)))
	case answerPending:
		return failed(domain.ErrorExited,
			"The handler never answered: it neither returned a value nor called back, and nothing was left that could still do so.")
	}
	return foreignAnswerVerdict
}

// exitVerdict judges a process that ended without an answer.
func (r *processRun) exitVerdict(log *runLog) verdict {
	status, _ := r.process.state.Sys().(syscall.WaitStatus)
	switch {
	case log.ranOutOfMemory() && (status.Signaled() || status.ExitStatus() != 0):
		return r.outOfMemory()
	case status.Signaled():
		return failed(domain.ErrorExited, fmt.Sprintf(
			"The process was ended by signal %d (%s) before the handler answered.", status.Signal(), status.Signal()))
	}
	return exitedWith(strconv.Itoa(status.ExitStatus()))
}

func exitedWith(code string) verdict {
	return failed(domain.ErrorExited, fmt.Sprintf("The process exited with code %s before the handler answered.", code))
}

func (r *processRun) outOfMemory() verdict {
	return failed(domain.ErrorOutOfMemory, fmt.Sprintf("The function needed more than its memory limit of %d MB.", r.Function.MemoryMB))
}

package runners

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

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
	strays  error // why something that the run started could not be ended
}

// marker stands in the environment of everything that the run starts.
func (r *processRun) marker() string { return "VOLTRUN_EXECUTION_ID=" + r.ExecutionID.String() }

// follow sees a started process through to its end.
func (r *processRun) follow(ctx context.Context, emit func(domain.ExecutionLogLine)) domain.Event {
	p := r.process
	defer p.close()
	log := &runLog{emit: emit}
	log.follow(domain.Stdout, p.stdout, r.token)
	log.follow(domain.Stderr, p.stderr, r.token)

	decide := r.await(ctx)
	duration := time.Since(r.started)
	memory := peakMemory(p.pid) // while it lives: the shims stand still after their answer
	p.kill()
	<-p.exited
	r.strays = endStrays(r.as, r.marker())
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
		return func(*runLog) verdict { return stoppedVerdict }
	}
}

var stoppedVerdict = failed(domain.ErrorWorkerStopped, "The server was stopped before the function ended. Run it again.")

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
	return failed(domain.ErrorOutOfMemory, fmt.Sprintf("The function needed more memory than its limit of %d MB allows.", r.Function.MemoryMB))
}

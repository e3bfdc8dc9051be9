package runners

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	answered  chan struct{} // closed when the answer has come, or something that is none
	answer    answer
	answerErr error
	strays    error // what the run started could not be ended
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
	log.read(p.answer, func(channel io.Reader) { r.receive(channel, log) })
	go r.send()

	stopped := r.await(ctx)
	duration := time.Since(r.started)
	memory := peakMemory(p.pid) // while it lives: the shims stand still after their answer
	p.kill()
	<-p.exited
	r.strays = endStrays(r.as, r.marker())
	log.finish()
	if memory == 0 {
		memory = exitMemory(p.state)
	}
	return r.verdict(log, stopped).event(duration, int((memory+1<<20-1)>>20))
}

// receive reads what the handler prints and answers.
func (r *processRun) receive(channel io.Reader, log *runLog) {
	stdout, stderr := log.splitter(domain.Stdout), log.splitter(domain.Stderr)
	r.answer, r.answerErr = receiveAnswer(channel, r.token, func(stream domain.LogStream, text []byte) {
		if stream == domain.Stdout {
			_, _ = stdout.Write(text)
		} else {
			_, _ = stderr.Write(text)
		}
	})
	stdout.flush()
	stderr.flush()
	if !errors.Is(r.answerErr, errNoAnswer) { // how the process ends says why
		close(r.answered)
	}
}

// await waits until the run is over. It returns why it must be stopped, or nil when it ended by itself.
func (r *processRun) await(ctx context.Context) *verdict {
	timer := time.NewTimer(time.Until(r.started.Add(r.timeout)))
	defer timer.Stop()
	select {
	case <-r.answered:
		return nil
	case <-r.process.exited: // it may have answered just before
		return nil
	case <-timer.C:
		return new(failed(domain.ErrorTimeout, fmt.Sprintf("The function ran longer than its limit of %d s and was stopped.", r.Function.TimeoutSec)))
	case <-ctx.Done():
		return new(stoppedVerdict)
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

// verdict judges a run whose log is complete. An answer that was still on its way when the run was stopped counts.
func (r *processRun) verdict(log *runLog, stopped *verdict) verdict {
	switch err := r.answerErr; {
	case err == nil:
		return r.answerVerdict()
	case errors.Is(err, errLongAnswer):
		return failed(domain.ErrorOutputTooLarge,
			fmt.Sprintf("What the handler returned must be at most %d bytes of JSON, but has more.", domain.MaxOutputBytes))
	case errors.Is(err, errForeignAnswer):
		return foreignAnswerVerdict
	case stopped != nil:
		return *stopped
	}
	return r.exitVerdict(log)
}

func (r *processRun) answerVerdict() verdict {
	switch a := r.answer; a.kind {
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

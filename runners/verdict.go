package runners

import (
	"encoding/json"
	"fmt"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// verdict is how a run ended, without its measurements. An empty errorType is a success.
type verdict struct {
	output    json.RawMessage
	errorType string
	message   string
	stack     string
}

func failed(errorType, message string) verdict {
	return verdict{errorType: errorType, message: message}
}

// measures are what a run took.
type measures struct {
	duration time.Duration
	cpu      time.Duration
	peak     int64 // bytes of memory
	cold     bool
}

func (v verdict) event(m measures) domain.Event {
	memoryMB := int((m.peak + 1<<20 - 1) >> 20)
	if v.errorType == "" {
		return domain.ExecutionCompleted{
			Output: v.output, DurationMS: m.duration.Milliseconds(), MemoryMB: memoryMB, CPUMS: m.cpu.Milliseconds(), ColdStart: m.cold,
		}
	}
	return domain.ExecutionFailed{
		Error: v.message, ErrorType: v.errorType, Stack: v.stack,
		DurationMS: m.duration.Milliseconds(), MemoryMB: memoryMB, CPUMS: m.cpu.Milliseconds(), ColdStart: m.cold,
	}
}

var (
	stoppedVerdict       = failed(domain.ErrorWorkerStopped, "The server was stopped before the function ended. Run it again.")
	foreignAnswerVerdict = failed(domain.ErrorOutputInvalid,
		"The function wrote to file descriptor 4, on which VoltRun receives what a handler returns. Return the value instead.")
	closedAnswerVerdict = failed(domain.ErrorOutputInvalid,
		"The function closed file descriptor 4, on which VoltRun receives what a handler returns. Close only what the function has opened.")
	longAnswerVerdict = failed(domain.ErrorOutputTooLarge,
		fmt.Sprintf("What the handler returned must be at most %d bytes of JSON, but has more.", domain.MaxOutputBytes))
	pendingVerdict = failed(domain.ErrorExited,
		"The handler never answered: it neither returned a value nor called back, and nothing was left that could still do so.")
)

func timeoutVerdict(f domain.Function) verdict {
	return failed(domain.ErrorTimeout, fmt.Sprintf("The function ran longer than its limit of %d s and was stopped.", f.TimeoutSec))
}

func memoryVerdict(f domain.Function) verdict {
	return failed(domain.ErrorOutOfMemory, fmt.Sprintf("The function needed more memory than its limit of %d MB allows.", f.MemoryMB))
}

func exitedVerdict(code string) verdict {
	return failed(domain.ErrorExited, fmt.Sprintf("The process exited with code %s before the handler answered.", code))
}

// answerVerdict reads how a shim says that an invocation ended.
func answerVerdict(f domain.Function, answer frame, conceal func(string) string) verdict {
	switch answer.kind {
	case frameOutput:
		return outputVerdict(answer.payload)
	case frameError:
		return errorVerdict(answer.payload, conceal)
	case frameMemory:
		return memoryVerdict(f)
	case frameExit:
		return exitedVerdict(clip(printable(string(answer.payload)), maxErrorType))
	}
	return pendingVerdict
}

// exitVerdict judges a process that ended without an answer.
func exitVerdict(f domain.Function, exit sandbox.Exit, saidOutOfMemory bool) verdict {
	switch {
	case exit.OutOfMemory, saidOutOfMemory && exit.Code != 0:
		return memoryVerdict(f)
	case exit.Signal != 0:
		return failed(domain.ErrorExited, fmt.Sprintf(
			"The process was ended by signal %d (%s) before the handler answered.", exit.Signal, syscall.Signal(exit.Signal)))
	}
	return exitedVerdict(strconv.Itoa(exit.Code))
}

// thrownError is the payload of frameError.
type thrownError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Stack   string `json:"stack"`
}

// outputVerdict checks what a handler returned.
func outputVerdict(output []byte) verdict {
	err := domain.CheckJSON("What the handler returned", output, domain.MaxOutputBytes)
	switch {
	case domain.IsCode(err, domain.TooLarge):
		return failed(domain.ErrorOutputTooLarge, err.Error())
	case err != nil:
		return failed(domain.ErrorOutputInvalid, err.Error())
	}
	return verdict{output: json.RawMessage(output)}
}

// Bounds of what is kept of an error, in bytes.
const (
	maxErrorType    = 200
	maxErrorMessage = 8 << 10
	maxErrorStack   = 16 << 10
)

// errorVerdict reads an error that the handler threw or that the shim found.
func errorVerdict(body []byte, conceal func(string) string) verdict {
	var thrown thrownError
	if err := json.Unmarshal(body, &thrown); err != nil {
		return foreignAnswerVerdict
	}
	return verdict{
		errorType: clip(printable(thrown.Type), maxErrorType),
		message:   clip(conceal(printable(thrown.Message)), maxErrorMessage),
		stack:     clip(conceal(printable(thrown.Stack)), maxErrorStack),
	}
}

// clip cuts text to max bytes, visibly.
func clip(text string, max int) string {
	if len(text) <= max {
		return text
	}
	for !utf8.RuneStart(text[max]) {
		max--
	}
	return text[:max] + "…"
}

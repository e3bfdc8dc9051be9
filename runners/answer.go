package runners

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/voltrun/voltrun/domain"
)

// answer is how a handler ended, as the shim saw it.
type answer struct {
	kind answerKind
	body []byte // JSON
}

type answerKind string

const (
	answerOutput  answerKind = "output"  // the body is what the handler returned
	answerError   answerKind = "error"   // the body is a thrownError
	answerExit    answerKind = "exit"    // the process is about to exit with this code
	answerPending answerKind = "pending" // Node.js: nothing is left that could settle the handler's promise
	answerMemory  answerKind = "memory"  // the memory limit was hit, and the language could say so
)

// thrownError is the body of answerError.
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

var foreignAnswerVerdict = failed(domain.ErrorOutputInvalid,
	"The function wrote to file descriptor 4, on which VoltRun receives what a handler prints and returns. Print or return it instead.")

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

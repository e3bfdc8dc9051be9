package runners

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/voltrun/voltrun/domain"
)

// answer is what a shim writes to descriptor 4, once: a line "<token> <kind>" and a line of JSON. The token is drawn
// anew for each run and told to the shim alone, so that what a handler writes there is not taken for an answer.
type answer struct {
	kind answerKind
	body []byte
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

var (
	errNoAnswer      = errors.New("the process closed its answer channel without an answer")
	errForeignAnswer = errors.New("something else than an answer was written to the answer channel")
	errLongAnswer    = errors.New("the answer is longer than an output may be")
)

// maxAnswerHeader bounds the first line.
const maxAnswerHeader = 256

// readAnswer reads the one answer. It never holds more than an output may have.
func readAnswer(r io.Reader, token string) (answer, error) {
	limited := io.LimitReader(r, domain.MaxOutputBytes+maxAnswerHeader)
	lines := bufio.NewReader(limited)
	header, err := readUpTo(lines, maxAnswerHeader)
	if err != nil {
		return answer{}, err
	}
	got, kind, _ := strings.Cut(header, " ")
	if got != token {
		return answer{}, errForeignAnswer
	}
	body, err := lines.ReadBytes('\n')
	if errors.Is(err, io.EOF) && limited.(*io.LimitedReader).N == 0 {
		return answer{}, errLongAnswer
	}
	if err != nil {
		return answer{}, errNoAnswer
	}
	return answer{kind: answerKind(kind), body: body[:len(body)-1]}, nil
}

// readUpTo reads a line of at most max bytes, and returns it without its newline.
func readUpTo(r *bufio.Reader, max int) (string, error) {
	var line []byte
	for len(line) < max {
		b, err := r.ReadByte()
		switch {
		case err != nil && len(line) > 0:
			return "", errForeignAnswer
		case err != nil:
			return "", errNoAnswer
		case b == '\n':
			return string(line), nil
		}
		line = append(line, b)
	}
	return "", errForeignAnswer
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
	"The function wrote to file descriptor 4, on which VoltRun receives what a handler returns. Return the value instead.")

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

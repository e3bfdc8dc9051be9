// Package runners runs functions: it claims accepted executions, runs each handler in a real Node.js or Python
// process, and reports what it printed and how it ended.
//
// An Executor takes executions, bounded by its slots, and hands each to a Runner; a Rescuer ends what workers that are
// gone left running. What both know of the log they know through Recorder and Abandoned, which the caller implements.
package runners

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Invocation is one run of a function.
type Invocation struct {
	ExecutionID uuid.UUID
	Function    domain.Function // as it was when the run was requested
	Input       json.RawMessage
}

// Runner runs handlers.
//
// Run returns how the run ended, always: a domain.ExecutionCompleted or a domain.ExecutionFailed. What goes wrong on
// VoltRun's side is a failure like any other, with a message for the function's owner; its details are in the
// server's own log. When ctx ends first, the handler is stopped and the end is a domain.ErrorWorkerStopped failure.
//
// emit gets every line that was printed before the end, in the order in which they were read, one call at a time, and
// none after Run has returned. While emit does not return, nothing more is read from the handler.
type Runner interface {
	Run(ctx context.Context, invocation Invocation, emit func(domain.ExecutionLogLine)) domain.Event
}

package domain

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// ExecutionStatus is where an execution stands: pending, then running, then success or failed. The last two are final.
type ExecutionStatus string

// The states of an execution.
const (
	ExecutionPending ExecutionStatus = "pending"
	ExecutionRunning ExecutionStatus = "running"
	ExecutionSuccess ExecutionStatus = "success"
	ExecutionFailure ExecutionStatus = "failed"
)

// ExecutionStatuses lists every status, in order of life.
func ExecutionStatuses() []ExecutionStatus {
	return []ExecutionStatus{ExecutionPending, ExecutionRunning, ExecutionSuccess, ExecutionFailure}
}

// Machine-readable reasons of a failure that VoltRun itself found. A failure inside the handler carries the name of the
// exception instead ("TypeError", "ValueError", …).
const (
	ErrorTimeout            = "Timeout"            // ran longer than timeout_sec
	ErrorOutOfMemory        = "OutOfMemory"        // needed more than memory_mb
	ErrorHandlerNotFound    = "HandlerNotFound"    // entry_point names nothing that can be called
	ErrorExited             = "ProcessExited"      // the process ended before the handler answered
	ErrorOutputTooLarge     = "OutputTooLarge"     // the answer is longer than MaxOutputBytes
	ErrorOutputInvalid      = "OutputInvalid"      // the answer is not a JSON value
	ErrorRuntimeUnavailable = "RuntimeUnavailable" // this host has lost the runtime that the function needs
	ErrorWorkerLost         = "WorkerLost"         // the worker was gone before the handler ended
	ErrorWorkerStopped      = "WorkerStopped"      // the server was stopped before the handler ended
	ErrorInternal           = "InternalError"      // VoltRun could not run it; the server's log says why
)

// Execution is one run of a function, as its decisions need it. What it printed and answered stands in its events.
type Execution struct {
	ID              uuid.UUID
	AccountID       uuid.UUID
	FunctionID      uuid.UUID
	FunctionVersion int
	Input           json.RawMessage
	Status          ExecutionStatus
	WorkerID        uuid.UUID // who claimed it
}

// Attempt is a worker's hold on an execution. Version is how many events the execution has, as far as the worker knows;
// what it writes is written at this version, so that a worker which has lost its hold cannot write any more.
type Attempt struct {
	Execution Execution
	Function  Function // as it was when the execution was requested
	Version   int

	// What the events that the worker writes stem from.
	RequestEventID uuid.UUID // the ExecutionRequested
	CorrelationID  uuid.UUID // the request in which it was asked for
}

// Outcome is how an execution ended, for who waits for it.
type Outcome struct {
	End     Event  // an ExecutionCompleted or an ExecutionFailed; nil when it was not recorded here
	LogTail string // the last of what it printed
}

// LogStream says where a line was printed.
type LogStream string

// The streams of a log.
const (
	Stdout LogStream = "stdout"
	Stderr LogStream = "stderr"
	System LogStream = "system" // VoltRun's own remark, such as the mark of a truncated log
)

type (
	// ExecutionRequested is an accepted execution: from here on it will end as a success or as a failure.
	ExecutionRequested struct {
		ExecutionID     uuid.UUID       `json:"execution_id"`
		AccountID       uuid.UUID       `json:"account_id"`
		FunctionID      uuid.UUID       `json:"function_id"`
		FunctionVersion int             `json:"function_version"`
		FunctionName    string          `json:"function_name"`
		Runtime         string          `json:"runtime"`
		Input           json.RawMessage `json:"input"`
	}

	// ExecutionStarted is a worker's claim.
	ExecutionStarted struct {
		WorkerID uuid.UUID `json:"worker_id"`
	}

	// ExecutionLogLine is one line that the handler printed.
	ExecutionLogLine struct {
		Stream LogStream `json:"stream"`
		Text   string    `json:"text"` // valid UTF-8 without the newline; what was not valid or was NUL is U+FFFD
		At     time.Time `json:"at"`   // when the worker read it
	}

	// ExecutionCompleted is an execution's good end.
	ExecutionCompleted struct {
		Output     json.RawMessage `json:"output"`
		DurationMS int64           `json:"duration_ms"` // wall clock from the hand-over to the answer, start-up included
		MemoryMB   int             `json:"memory_used"` // peak resident memory of the handler's processes
		CPUMS      int64           `json:"cpu_ms,omitempty"`
		ColdStart  bool            `json:"cold_start,omitempty"` // it was the first of its process
	}

	// ExecutionFailed is an execution's bad end.
	ExecutionFailed struct {
		Error      string `json:"error"`
		ErrorType  string `json:"error_type"`
		Stack      string `json:"stack,omitempty"` // the user's own frames
		DurationMS int64  `json:"duration_ms"`
		MemoryMB   int    `json:"memory_used"`
		CPUMS      int64  `json:"cpu_ms,omitempty"`
		ColdStart  bool   `json:"cold_start,omitempty"`
	}
)

// EventType implements Event.
func (ExecutionRequested) EventType() string { return "execution.requested" }

// EventType implements Event.
func (ExecutionStarted) EventType() string { return "execution.started" }

// EventType implements Event.
func (ExecutionLogLine) EventType() string { return "execution.log_line" }

// EventType implements Event.
func (ExecutionCompleted) EventType() string { return "execution.completed" }

// EventType implements Event.
func (ExecutionFailed) EventType() string { return "execution.failed" }

// Evolve implements State.
func (x Execution) Evolve(event Event) Execution {
	switch e := event.(type) {
	case ExecutionRequested:
		x = Execution{
			ID: e.ExecutionID, AccountID: e.AccountID, FunctionID: e.FunctionID, FunctionVersion: e.FunctionVersion,
			Input: e.Input, Status: ExecutionPending,
		}
	case ExecutionStarted:
		x.Status, x.WorkerID = ExecutionRunning, e.WorkerID
	case ExecutionCompleted:
		x.Status = ExecutionSuccess
	case ExecutionFailed:
		x.Status = ExecutionFailure
	}
	return x
}

// RequestExecution asks for a run of a function as it is now.
type RequestExecution struct {
	ExecutionID uuid.UUID
	AccountID   uuid.UUID
	FunctionID  uuid.UUID
	Function    Function // the state of FunctionID's stream
	Input       json.RawMessage
}

// Decide accepts the execution. An absent input is the empty object.
func (c RequestExecution) Decide(x Execution) ([]Event, error) {
	f := c.Function
	if !f.ownedBy(c.AccountID) {
		return nil, NoFunction(c.FunctionID)
	}
	if f.Status != FunctionActive {
		return nil, Errorf(Conflict, "Function %q is %s. Set its status to active to run it.", f.Name, f.Status)
	}
	input := c.Input
	if len(input) == 0 {
		input = json.RawMessage("{}")
	}
	if err := CheckJSON("input", input, MaxInputBytes); err != nil {
		return nil, err
	}
	if x.ID != uuid.Nil {
		return nil, Errorf(Conflict, "Execution %s exists already.", c.ExecutionID)
	}
	return []Event{ExecutionRequested{
		ExecutionID: c.ExecutionID, AccountID: c.AccountID, FunctionID: f.ID, FunctionVersion: f.Version,
		FunctionName: f.Name, Runtime: f.Runtime, Input: CompactJSON(input),
	}}, nil
}

// ErrNotClaimable answers a worker whose claim comes too late: the execution is another's, or over.
var ErrNotClaimable = &Error{Code: Conflict, Message: "The execution is claimed or over."}

// StartExecution is a worker's claim of a pending execution.
type StartExecution struct{ WorkerID uuid.UUID }

// Decide implements the rule: only a pending execution can be claimed.
func (c StartExecution) Decide(x Execution) ([]Event, error) {
	if x.Status != ExecutionPending {
		return nil, ErrNotClaimable
	}
	return []Event{ExecutionStarted(c)}, nil
}

// ErrNotRunning answers a worker that reports on an execution which is not its own any more.
var ErrNotRunning = &Error{Code: Conflict, Message: "The execution is not running on this worker."}

// ReportExecution is what a worker says of the execution that it runs: lines that were printed and, at the end, how it
// ended (an ExecutionCompleted or an ExecutionFailed; nil while it runs).
type ReportExecution struct {
	WorkerID uuid.UUID
	Lines    []ExecutionLogLine
	End      Event
}

// Decide implements the rule: only the worker that holds the claim reports, and only until the end.
func (c ReportExecution) Decide(x Execution) ([]Event, error) {
	if x.Status != ExecutionRunning || x.WorkerID != c.WorkerID {
		return nil, ErrNotRunning
	}
	events := make([]Event, 0, len(c.Lines)+1)
	for _, line := range c.Lines {
		events = append(events, line)
	}
	if c.End != nil {
		events = append(events, c.End)
	}
	return events, nil
}

// AbandonExecution ends an execution that nobody will end otherwise: its worker is gone, or it cannot be run at all.
type AbandonExecution struct {
	WorkerID uuid.UUID // the worker that is gone; nil for an execution that was never claimed
	Failure  ExecutionFailed
}

// Decide implements the rule: an execution that has ended, or that another worker holds, is left alone.
func (c AbandonExecution) Decide(x Execution) ([]Event, error) {
	lost := x.Status == ExecutionRunning && x.WorkerID == c.WorkerID
	unclaimed := x.Status == ExecutionPending && c.WorkerID == uuid.Nil
	if !lost && !unclaimed {
		return nil, nil
	}
	return []Event{c.Failure}, nil
}

package domain

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// What a function has when its creator says nothing, and the limits of what may be said.
const (
	DefaultEntryPoint = "index.handler"
	DefaultMemoryMB   = 128
	DefaultTimeoutSec = 30

	MinMemoryMB   = 64
	MaxMemoryMB   = 3008
	MinTimeoutSec = 1
	MaxTimeoutSec = 900

	MaxConcurrency = 1000
)

// Network is what a function may reach.
type Network string

// The networks of functions. The empty one is the server's default.
const (
	NetworkNone   Network = "none"   // nothing
	NetworkEgress Network = "egress" // the internet, but nothing of the server's host or its private networks
)

// FunctionStatus says whether a function may be run.
type FunctionStatus string

// The states of a function.
const (
	FunctionActive   FunctionStatus = "active"
	FunctionInactive FunctionStatus = "inactive" // its owner paused it
	FunctionError    FunctionStatus = "error"    // it cannot run until its owner mends it
)

// Function is a handler that somebody wrote, with its limits.
type Function struct {
	ID          uuid.UUID
	AccountID   uuid.UUID
	Version     int // 1 at creation, one more with each change
	Name        string
	Description string
	Runtime     string
	Code        string
	EntryPoint  string
	MemoryMB    int
	TimeoutSec  int
	Network     Network // empty: the server's default
	Concurrency int     // how many of its executions may run at once; 0: as many as the account's
	Status      FunctionStatus
	Deleted     bool
}

type (
	// FunctionCreated is a function's first version.
	FunctionCreated struct {
		FunctionID  uuid.UUID `json:"function_id"`
		AccountID   uuid.UUID `json:"account_id"`
		Name        string    `json:"name"`
		Description string    `json:"description"`
		Runtime     string    `json:"runtime"`
		Code        string    `json:"code"`
		EntryPoint  string    `json:"entry_point"`
		MemoryMB    int       `json:"memory_mb"`
		TimeoutSec  int       `json:"timeout_sec"`
		Network     Network   `json:"network,omitempty"`
		Concurrency int       `json:"concurrency,omitempty"`
	}

	// FunctionUpdated carries what changed; what is nil stayed.
	FunctionUpdated struct {
		FunctionChanges
	}

	// FunctionDeleted ends a function. What it ran stays in the log, and so does its code.
	FunctionDeleted struct{}

	// FunctionChanges is any part of what a function's owner can change.
	FunctionChanges struct {
		Name        *string         `json:"name,omitempty"`
		Description *string         `json:"description,omitempty"`
		Code        *string         `json:"code,omitempty"`
		EntryPoint  *string         `json:"entry_point,omitempty"`
		MemoryMB    *int            `json:"memory_mb,omitempty"`
		TimeoutSec  *int            `json:"timeout_sec,omitempty"`
		Network     *Network        `json:"network,omitempty"`
		Concurrency *int            `json:"concurrency,omitempty"`
		Status      *FunctionStatus `json:"status,omitempty"`
	}
)

// EventType implements Event.
func (FunctionCreated) EventType() string { return "function.created" }

// EventType implements Event.
func (FunctionUpdated) EventType() string { return "function.updated" }

// EventType implements Event.
func (FunctionDeleted) EventType() string { return "function.deleted" }

// Evolve implements State.
func (f Function) Evolve(event Event) Function {
	switch e := event.(type) {
	case FunctionCreated:
		f = Function{
			ID: e.FunctionID, AccountID: e.AccountID, Name: e.Name, Description: e.Description, Runtime: e.Runtime, Code: e.Code,
			EntryPoint: e.EntryPoint, MemoryMB: e.MemoryMB, TimeoutSec: e.TimeoutSec, Network: e.Network, Concurrency: e.Concurrency,
			Status: FunctionActive, Version: 1,
		}
	case FunctionUpdated:
		f = f.with(e.FunctionChanges)
		f.Version++
	case FunctionDeleted:
		f.Deleted = true
	}
	return f
}

func (f Function) with(c FunctionChanges) Function {
	set(&f.Name, c.Name)
	set(&f.Description, c.Description)
	set(&f.Code, c.Code)
	set(&f.EntryPoint, c.EntryPoint)
	set(&f.MemoryMB, c.MemoryMB)
	set(&f.TimeoutSec, c.TimeoutSec)
	set(&f.Network, c.Network)
	set(&f.Concurrency, c.Concurrency)
	set(&f.Status, c.Status)
	return f
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// ownedBy tells whether this account may see the function.
func (f Function) ownedBy(accountID uuid.UUID) bool {
	return f.ID != uuid.Nil && !f.Deleted && f.AccountID == accountID
}

// NoFunction answers for a function that does not exist or is somebody else's.
func NoFunction(id uuid.UUID) *Error { return Errorf(NotFound, "There is no function %s.", id) }

// entryPoint is `module.handler`: a file name without its ending and an exported name, both in the portable characters.
var entryPoint = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}\.[A-Za-z_$][A-Za-z0-9_$]{0,63}$`)

func (c *checks) function(f Function) {
	c.name("name", f.Name)
	c.text("description", f.Description, MaxDescriptionLength)
	c.require(strings.TrimSpace(f.Code) != "", "code", "code must not be empty.")
	c.require(len(f.Code) <= MaxCodeBytes, "code", "code must be at most %d bytes long, but has %d.", MaxCodeBytes, len(f.Code))
	c.require(utf8.ValidString(f.Code) && !strings.ContainsRune(f.Code, 0), "code", "code must be valid UTF-8 text without NUL characters.")
	c.require(entryPoint.MatchString(f.EntryPoint), "entry_point", "entry_point must be a file and an exported name, like %s, but is %q.", DefaultEntryPoint, f.EntryPoint)
	c.between("memory_mb", f.MemoryMB, MinMemoryMB, MaxMemoryMB)
	c.between("timeout_sec", f.TimeoutSec, MinTimeoutSec, MaxTimeoutSec)
	c.between("concurrency", f.Concurrency, 0, MaxConcurrency)
	switch f.Network {
	case "", NetworkNone, NetworkEgress:
	default:
		c.require(false, "network", "network must be none or egress, or empty for the server's default, but is %q.", f.Network)
	}
	switch f.Status {
	case FunctionActive, FunctionInactive, FunctionError:
	default:
		c.require(false, "status", "status must be active, inactive or error, but is %q.", f.Status)
	}
}

// CreateFunction asks for a new function. What is nil gets its default.
type CreateFunction struct {
	FunctionID  uuid.UUID
	AccountID   uuid.UUID
	Name        string
	Description string
	Runtime     string
	Code        string
	EntryPoint  *string
	MemoryMB    *int
	TimeoutSec  *int
	Network     *Network
	Concurrency *int
	Available   []string // the runtimes that this host has
}

// Decide implements the rules for a new function.
func (c CreateFunction) Decide(f Function) ([]Event, error) {
	created := Function{
		Name: c.Name, Description: c.Description, Code: c.Code, Status: FunctionActive,
		EntryPoint: DefaultEntryPoint, MemoryMB: DefaultMemoryMB, TimeoutSec: DefaultTimeoutSec,
	}.with(FunctionChanges{
		EntryPoint: c.EntryPoint, MemoryMB: c.MemoryMB, TimeoutSec: c.TimeoutSec, Network: c.Network, Concurrency: c.Concurrency,
	})

	var checks checks
	checks.function(created)
	checks.runtime(c.Runtime, c.Available)
	if err := checks.err(); err != nil {
		return nil, err
	}
	if f.ID != uuid.Nil {
		return nil, Errorf(Conflict, "Function %s exists already.", c.FunctionID)
	}
	return []Event{FunctionCreated{
		FunctionID: c.FunctionID, AccountID: c.AccountID, Name: created.Name, Description: created.Description, Runtime: c.Runtime,
		Code: created.Code, EntryPoint: created.EntryPoint, MemoryMB: created.MemoryMB, TimeoutSec: created.TimeoutSec,
		Network: created.Network, Concurrency: created.Concurrency,
	}}, nil
}

// UpdateFunction changes parts of a function.
type UpdateFunction struct {
	FunctionID uuid.UUID
	AccountID  uuid.UUID
	Changes    FunctionChanges
}

// Decide implements the rules for a change. A change that changes nothing is no event.
func (c UpdateFunction) Decide(f Function) ([]Event, error) {
	if !f.ownedBy(c.AccountID) {
		return nil, NoFunction(c.FunctionID)
	}
	changed := f.with(c.Changes)
	var checks checks
	checks.function(changed)
	if err := checks.err(); err != nil {
		return nil, err
	}
	if changed == f {
		return nil, nil
	}
	return []Event{FunctionUpdated{FunctionChanges: c.Changes}}, nil
}

// DeleteFunction ends a function.
type DeleteFunction struct {
	FunctionID uuid.UUID
	AccountID  uuid.UUID
}

// Decide implements the rule: only its owner ends a function.
func (c DeleteFunction) Decide(f Function) ([]Event, error) {
	if !f.ownedBy(c.AccountID) {
		return nil, NoFunction(c.FunctionID)
	}
	return []Event{FunctionDeleted{}}, nil
}

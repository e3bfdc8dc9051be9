package domain_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
)

// Whatever is asked of a function in whatever order: what is accepted stands in it exactly as it was asked for, what is
// refused changes nothing, and nobody but its owner gets anything.
func TestAFunctionIsWhatItsOwnerAskedFor(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &functionMachine{id: uuid.New(), owner: uuid.New(), stranger: uuid.New()}
		t.Repeat(map[string]func(*rapid.T){
			"create":         m.create,
			"update":         m.update,
			"delete":         m.delete,
			"by a stranger":  m.byStranger,
			"run":            m.run,
			"fail to create": m.createInvalid,
			"fail to update": m.updateInvalid,
		})
	})
}

// functionMachine knows a function by what it was asked to be.
type functionMachine struct {
	id, owner, stranger uuid.UUID
	history             []domain.Event
	want                domain.Function // what it should be now
}

func (m *functionMachine) state() domain.Function { return domain.Fold[domain.Function](m.history...) }
func (m *functionMachine) lives() bool            { return m.want.ID != uuid.Nil && !m.want.Deleted }

func (m *functionMachine) create(t *rapid.T) {
	cmd := validCreate(t)
	cmd.FunctionID, cmd.AccountID = m.id, m.owner
	events, err := cmd.Decide(m.state())
	if m.want.ID != uuid.Nil {
		requireRefused(t, domain.Conflict, events, err)
		return
	}
	m.want = domain.Function{
		ID: m.id, AccountID: m.owner, Version: 1, Name: cmd.Name, Description: cmd.Description, Runtime: cmd.Runtime, Code: cmd.Code,
		EntryPoint: valueOr(cmd.EntryPoint, "index.handler"), MemoryMB: valueOr(cmd.MemoryMB, 128), TimeoutSec: valueOr(cmd.TimeoutSec, 30),
		Status: domain.FunctionActive,
	}
	m.accepted(t, events, err)
}

// accepted requires that the decision makes the function what it should be.
func (m *functionMachine) accepted(t *rapid.T, events []domain.Event, err error) {
	require.NoError(t, err)
	require.LessOrEqual(t, len(events), 1)
	m.history = append(m.history, events...)
	require.Equal(t, m.want, m.state())
}

func (m *functionMachine) update(t *rapid.T) {
	changes := validChanges(t)
	before := m.want
	events, err := domain.UpdateFunction{FunctionID: m.id, AccountID: m.owner, Changes: changes}.Decide(m.state())
	if !m.lives() {
		requireRefused(t, domain.NotFound, events, err)
		return
	}
	m.want.Name, m.want.Description = valueOr(changes.Name, before.Name), valueOr(changes.Description, before.Description)
	m.want.Code, m.want.EntryPoint = valueOr(changes.Code, before.Code), valueOr(changes.EntryPoint, before.EntryPoint)
	m.want.MemoryMB, m.want.TimeoutSec = valueOr(changes.MemoryMB, before.MemoryMB), valueOr(changes.TimeoutSec, before.TimeoutSec)
	m.want.Status = valueOr(changes.Status, before.Status)
	if m.want != before {
		m.want.Version++
	}
	m.accepted(t, events, err)
	require.Equal(t, m.want != before, len(events) == 1, "a change that changes nothing is no event")
}

func (m *functionMachine) delete(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "keep it") > 0 {
		t.Skip("it should live for a while")
	}
	events, err := domain.DeleteFunction{FunctionID: m.id, AccountID: m.owner}.Decide(m.state())
	if !m.lives() {
		requireRefused(t, domain.NotFound, events, err)
		return
	}
	m.want.Deleted = true
	m.accepted(t, events, err)
}

func (m *functionMachine) byStranger(t *rapid.T) {
	for _, decide := range []func(domain.Function) ([]domain.Event, error){
		domain.UpdateFunction{FunctionID: m.id, AccountID: m.stranger, Changes: validChanges(t)}.Decide,
		domain.DeleteFunction{FunctionID: m.id, AccountID: m.stranger}.Decide,
		func(f domain.Function) ([]domain.Event, error) {
			return domain.RequestExecution{ExecutionID: uuid.New(), AccountID: m.stranger, FunctionID: m.id, Function: f}.Decide(domain.Execution{})
		},
	} {
		events, err := decide(m.state())
		requireRefused(t, domain.NotFound, events, err)
	}
}

func (m *functionMachine) run(t *rapid.T) {
	events, err := domain.RequestExecution{
		ExecutionID: uuid.New(), AccountID: m.owner, FunctionID: m.id, Function: m.state(),
	}.Decide(domain.Execution{})
	switch {
	case !m.lives():
		requireRefused(t, domain.NotFound, events, err)
	case m.want.Status != domain.FunctionActive:
		requireRefused(t, domain.Conflict, events, err)
	default:
		require.NoError(t, err)
		require.Equal(t, m.want.Version, events[0].(domain.ExecutionRequested).FunctionVersion)
	}
}

// createInvalid breaks one field, and that one is named.
func (m *functionMachine) createInvalid(t *rapid.T) {
	cmd := validCreate(t)
	cmd.FunctionID, cmd.AccountID = m.id, m.owner
	field := rapid.SampledFrom([]string{"runtime", "name", "description", "code", "entry_point", "memory_mb", "timeout_sec"}).Draw(t, "field")
	broken := domain.FunctionChanges{}
	switch field {
	case "runtime":
		cmd.Runtime = rapid.SampledFrom([]string{"ruby", "python2", "", "NODEJS", "python3.13"}).Draw(t, "runtime")
	default:
		broken = breakField(t, field)
	}
	cmd.Name, cmd.Description, cmd.Code = valueOr(broken.Name, cmd.Name), valueOr(broken.Description, cmd.Description), valueOr(broken.Code, cmd.Code)
	cmd.EntryPoint, cmd.MemoryMB, cmd.TimeoutSec = either(broken.EntryPoint, cmd.EntryPoint), either(broken.MemoryMB, cmd.MemoryMB), either(broken.TimeoutSec, cmd.TimeoutSec)
	events, err := cmd.Decide(m.state())
	requireField(t, field, events, err)
}

func (m *functionMachine) updateInvalid(t *rapid.T) {
	if !m.lives() {
		t.Skip("there is nothing to update")
	}
	field := rapid.SampledFrom([]string{"name", "description", "code", "entry_point", "memory_mb", "timeout_sec", "status"}).Draw(t, "field")
	events, err := domain.UpdateFunction{FunctionID: m.id, AccountID: m.owner, Changes: breakField(t, field)}.Decide(m.state())
	requireField(t, field, events, err)
}

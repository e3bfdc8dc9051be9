package domain_test

import (
	"errors"
	"strings"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
)

var hostRuntimes = []string{"nodejs", "nodejs20", "python", "python3.11"}

func validCreate(t *rapid.T) domain.CreateFunction {
	changes := validChanges(t)
	return domain.CreateFunction{
		Name: valueOr(changes.Name, "hello"), Description: valueOr(changes.Description, ""), Code: valueOr(changes.Code, "1"),
		Runtime:    rapid.SampledFrom(hostRuntimes).Draw(t, "runtime"),
		EntryPoint: changes.EntryPoint, MemoryMB: changes.MemoryMB, TimeoutSec: changes.TimeoutSec, Available: hostRuntimes,
	}
}

// validChanges are any changes within the limits, at them often.
func validChanges(t *rapid.T) domain.FunctionChanges {
	return domain.FunctionChanges{
		Name:        maybe(t, "name", validName),
		Description: maybe(t, "description", validDescription),
		Code:        maybe(t, "code", validCode),
		EntryPoint:  maybe(t, "entry point", rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_-]{0,63}\.[A-Za-z_$][A-Za-z0-9_$]{0,63}`)),
		MemoryMB:    maybe(t, "memory", rapid.OneOf(rapid.IntRange(64, 3008), rapid.SampledFrom([]int{64, 3008}))),
		TimeoutSec:  maybe(t, "timeout", rapid.OneOf(rapid.IntRange(1, 900), rapid.SampledFrom([]int{1, 900}))),
		Status: maybe(t, "status", rapid.SampledFrom([]domain.FunctionStatus{
			domain.FunctionActive, domain.FunctionActive, domain.FunctionInactive, domain.FunctionError,
		})),
	}
}

// breakField is a change with one field beyond its limits.
func breakField(t *rapid.T, field string) (c domain.FunctionChanges) {
	text := func(bad ...string) *string { return ptr(rapid.SampledFrom(bad).Draw(t, field)) }
	number := func(bad ...int) *int { return ptr(rapid.SampledFrom(bad).Draw(t, field)) }
	switch field {
	case "name":
		c.Name = ptr(rapid.SampledFrom(invalidNames).Draw(t, field))
	case "description":
		c.Description = text(strings.Repeat("é", 1001), "a\x00b", "\xff")
	case "code":
		c.Code = text("", " \n\t", longestCode+"x", "a\x00b", "\xc3")
	case "entry_point":
		c.EntryPoint = text("", "index", "a.b.c", "../x.y", ".handler", "index.", "1a.b", "a.1", "index.handler\n", "a b.c", strings.Repeat("a", 65)+".b")
	case "memory_mb":
		c.MemoryMB = number(63, 3009, 0, -1, 1<<40)
	case "timeout_sec":
		c.TimeoutSec = number(0, 901, -1, 1<<40)
	case "status":
		c.Status = ptr(rapid.SampledFrom([]domain.FunctionStatus{"", "paused", "ACTIVE", "deleted"}).Draw(t, field))
	}
	return c
}

var invalidNames = []string{"", " ", "\u2003", "a\nb", "a\tb", "a\u202eb", "a\u200bb", "a\x00b", "\xff", strings.Repeat("é", 101)}

var longestCode = strings.Repeat("x", domain.MaxCodeBytes)

// validCode is as long as it may be sometimes only, because that takes time.
var validCode = rapid.Custom(func(t *rapid.T) string {
	if rapid.IntRange(0, 15).Draw(t, "longest") == 15 {
		return longestCode
	}
	return rapid.StringMatching(`[\p{L}\p{P}\s]{0,40};`).Draw(t, "code")
})

var validDescription = rapid.OneOf(
	rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0 })), rapid.Just(strings.Repeat("é", 1000)),
)

var validName = rapid.OneOf(
	rapid.StringMatching(`[\p{L}\p{N}][\p{L}\p{N} _.-]{0,99}`), rapid.Just(strings.Repeat("é", 100)), rapid.Just("क्\u200dष"),
)

func maybe[V any](t *rapid.T, label string, value *rapid.Generator[V]) *V {
	if rapid.Bool().Draw(t, label+" is given") {
		return ptr(value.Draw(t, label))
	}
	return nil
}

func valueOr[V any](value *V, otherwise V) V {
	if value == nil {
		return otherwise
	}
	return *value
}

func either[V any](one, other *V) *V {
	if one != nil {
		return one
	}
	return other
}

// requireRefused requires a refusal of that kind that nothing comes of.
func requireRefused(t *rapid.T, code domain.Code, events []domain.Event, err error) *domain.Error {
	t.Helper()
	var refusal *domain.Error
	require.True(t, errors.As(err, &refusal), "want a refusal, got %v with %v", err, events)
	require.Equal(t, code, refusal.Code, refusal.Message)
	require.Empty(t, events)
	return refusal
}

// requireField requires a refusal that names this field and no other.
func requireField(t *rapid.T, field string, events []domain.Event, err error) {
	t.Helper()
	refusal := requireRefused(t, domain.Invalid, events, err)
	for _, f := range refusal.Fields {
		require.Equal(t, field, f.Field, f.Message)
		require.NotEmpty(t, f.Message)
	}
	require.NotEmpty(t, refusal.Fields)
}

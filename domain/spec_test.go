package domain_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

// given folds a history; the result is decided on with then or refused.
func given[S domain.State[S]](history ...domain.Event) spec[S] {
	return spec[S]{state: domain.Fold[S](history...)}
}

type spec[S any] struct{ state S }

// then requires that the decision is exactly these events.
func (s spec[S]) then(t *testing.T, decide func(S) ([]domain.Event, error), want ...domain.Event) {
	t.Helper()
	events, err := decide(s.state)
	require.NoError(t, err)
	require.Equal(t, want, events)
}

// refused requires that the decision is a refusal of that kind, in a whole sentence, and returns it.
func (s spec[S]) refused(t *testing.T, code domain.Code, decide func(S) ([]domain.Event, error)) *domain.Error {
	t.Helper()
	events, err := decide(s.state)
	var refusal *domain.Error
	require.True(t, errors.As(err, &refusal), "want a refusal, got %v with %v", err, events)
	require.Equal(t, code, refusal.Code, refusal.Message)
	require.NotEmpty(t, refusal.Message)
	return refusal
}

func fieldsOf(e *domain.Error) []string {
	var names []string
	for _, f := range e.Fields {
		names = append(names, f.Field)
	}
	return names
}

func ptr[T any](v T) *T { return &v }

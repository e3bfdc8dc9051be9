package memory

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// KeepAnswer implements eventstore.Answers.
func (s *Store) KeepAnswer(_ context.Context, answer eventstore.Answer, now time.Time) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.answers[answer.ID]
	if !ok || !kept.KeptUntil.After(now) {
		answer.Sealed = slices.Clone(answer.Sealed)
		s.answers[answer.ID], kept = answer, answer
	}
	return slices.Clone(kept.Sealed), nil
}

// Answer implements eventstore.Answers.
func (s *Store) Answer(_ context.Context, id uuid.UUID, now time.Time) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.answers[id]
	if !ok || !kept.KeptUntil.After(now) {
		return nil, eventstore.ErrNoAnswer
	}
	return slices.Clone(kept.Sealed), nil
}

// PruneAnswers implements eventstore.Answers.
func (s *Store) PruneAnswers(_ context.Context, now time.Time) (int, error) {
	return s.dropAnswers(func(a eventstore.Answer) bool { return !a.KeptUntil.After(now) }), nil
}

func (s *Store) dropAnswers(over func(eventstore.Answer) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.answers)
	for id, answer := range s.answers {
		if over(answer) {
			delete(s.answers, id)
		}
	}
	return before - len(s.answers)
}

package domain

// Event is a fact about one aggregate. Facts are written once and kept for ever, so the type name and the JSON form of
// an event never change their meaning: a new form is a new schema version with an upcaster (see eventstore.Codec).
type Event interface {
	// EventType is the stable name under which the fact is stored, "<aggregate>.<what happened>".
	EventType() string
}

// Impersonal is an event that holds nothing but ids. It is not sealed for its account, so that the log can be folded when
// the account was erased.
type Impersonal interface {
	Event
	Impersonal()
}

// ImpersonalTypes lists the types of impersonal events.
func ImpersonalTypes() (types []string) {
	for _, e := range Events() {
		if _, impersonal := e.(Impersonal); impersonal {
			types = append(types, e.EventType())
		}
	}
	return types
}

// Redacted stands for an event whose account was erased: that it happened is all that can be known. No fold knows it.
type Redacted struct{ Type string }

// Archived stands for an event whose content is not in the log any more, but in the archive. No fold knows it.
type Archived struct{ Type string }

// EventType implements Event.
func (r Redacted) EventType() string { return r.Type }

// EventType implements Event.
func (a Archived) EventType() string { return a.Type }

// State is an aggregate's state of type S, which folds events one by one. Evolve ignores events that it does not know.
type State[S any] interface {
	Evolve(Event) S
}

// Fold replays events, oldest first, over the zero state.
func Fold[S State[S]](events ...Event) S {
	var state S
	for _, e := range events {
		state = state.Evolve(e)
	}
	return state
}

// Events lists one value of every event type that may stand in the log.
func Events() []Event {
	return []Event{
		EmailReserved{}, AccountRegistered{}, RetentionChanged{}, AccountImported{}, AccountErased{}, EmailReleased{},
		SessionStarted{}, SessionRefreshed{}, SessionRevoked{},
		FunctionCreated{}, FunctionUpdated{}, FunctionDeleted{},
		ExecutionRequested{}, ExecutionStarted{}, ExecutionLogLine{}, ExecutionCompleted{}, ExecutionFailed{},
		KeyCreated{}, KeyUsed{}, KeyDeleted{},
		RequestCarriedOut{},
		LogArchived{},
	}
}

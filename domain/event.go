package domain

// Event is a fact about one aggregate. Facts are written once and kept for ever, so the type name and the JSON form of
// an event never change their meaning: a new form is a new schema version with an upcaster (see eventstore.Codec).
type Event interface {
	// EventType is the stable name under which the fact is stored, "<aggregate>.<what happened>".
	EventType() string
}

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
		EmailReserved{}, AccountRegistered{},
		SessionStarted{}, SessionRefreshed{}, SessionRevoked{},
		FunctionCreated{}, FunctionUpdated{}, FunctionDeleted{},
		ExecutionRequested{}, ExecutionStarted{}, ExecutionLogLine{}, ExecutionCompleted{}, ExecutionFailed{},
		KeyCreated{}, KeyUsed{}, KeyDeleted{},
	}
}

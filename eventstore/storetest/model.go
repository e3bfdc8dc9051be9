package storetest

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/eventstore"
)

// What clients ask of a log, and how it answers. A record is an event without what does not matter for the order.
type (
	appendCall     struct{ writes []eventstore.Write }
	readStreamCall struct {
		stream uuid.UUID
		after  int
	}
	readAllCall struct{ after eventstore.Position }
	headCall    struct{}

	appended struct {
		position eventstore.Position
		conflict *eventstore.VersionConflict // not nil when the append was refused
	}

	record struct {
		position eventstore.Position
		stream   uuid.UUID
		version  int
		id       uuid.UUID
	}
)

func recordOf(e eventstore.Event) record { return record{e.Position, e.StreamID, e.Version, e.ID} }

// log is the model: a list that only grows. There is nothing more to know about a correct log.
type log []record

// logModel is the log as one sequential process would see it. It is judged as a whole and not stream by stream: appends
// span streams, and positions are a promise about all of them. That stays fast, because an acknowledged position leaves
// an append just one moment.
var logModel = porcupine.Model{
	Init:              func() any { return log(nil) },
	Step:              func(state, call, answer any) (bool, any) { return state.(log).step(call, answer) },
	Equal:             func(a, b any) bool { return slices.Equal(a.(log), b.(log)) },
	DescribeOperation: func(call, answer any) string { return fmt.Sprintf("%+v → %+v", call, answer) },
}

// step tells whether the log could have answered the call like this, and what it holds afterwards.
func (l log) step(call, answer any) (bool, log) {
	switch c := call.(type) {
	case appendCall:
		return l.append(c.writes, answer.(appended))
	case readStreamCall:
		return slices.Equal(l.stream(c.stream, c.after), answer.([]record)), l
	case readAllCall:
		return slices.Equal(l[min(int(c.after), len(l)):], answer.([]record)), l
	case headCall:
		return eventstore.Position(len(l)) == answer.(eventstore.Position), l
	default:
		panic(fmt.Sprintf("a call of an unknown type: %T", call))
	}
}

func (l log) append(writes []eventstore.Write, answer appended) (bool, log) {
	if c := answer.conflict; c != nil {
		return int(c.Expected) != c.Actual && l.version(c.StreamID) == c.Actual, l
	}
	longer := slices.Clone(l)
	for _, w := range writes {
		version := l.version(w.StreamID)
		if w.Expected != eventstore.Any && int(w.Expected) != version {
			return false, l
		}
		for i, e := range w.Events {
			longer = append(longer, record{eventstore.Position(len(longer) + 1), w.StreamID, version + i + 1, e.ID})
		}
	}
	return eventstore.Position(len(longer)) == answer.position, longer
}

func (l log) version(stream uuid.UUID) int {
	for _, r := range slices.Backward(l) {
		if r.stream == stream {
			return r.version
		}
	}
	return 0
}

func (l log) stream(id uuid.UUID, after int) log {
	var events log
	for _, r := range l {
		if r.stream == id && r.version > after {
			events = append(events, r)
		}
	}
	return events
}

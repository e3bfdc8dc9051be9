package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// story is an execution's history as it is told.
type story struct {
	events  []Event
	offsets []time.Duration // since the first event; they never go backwards
	style   style
}

func newStory(events []Event, style style) story {
	s := story{events: events, offsets: make([]time.Duration, len(events)), style: style}
	for i, event := range events {
		s.offsets[i] = event.happenedAt().Sub(events[0].RecordedAt)
		if i > 0 {
			s.offsets[i] = max(s.offsets[i], s.offsets[i-1])
		}
	}
	return s
}

// happenedAt is when a line was printed, which is a little before it was recorded, together with others. For all else it
// is when it was recorded. A worker's clock that runs ahead changes nothing about that.
func (e Event) happenedAt() time.Time {
	var line struct {
		At time.Time `json:"at"`
	}
	if e.Type != "execution.log_line" || json.Unmarshal(e.Data, &line) != nil || line.At.IsZero() || line.At.After(e.RecordedAt) {
		return e.RecordedAt
	}
	return line.At
}

// requested is what the first event says.
type requested struct {
	ExecutionID  string          `json:"execution_id"`
	FunctionName string          `json:"function_name"`
	Runtime      string          `json:"runtime"`
	Input        json.RawMessage `json:"input"`
}

func (s story) title() string {
	title := "Execution " + s.events[0].StreamID
	var r requested
	if json.Unmarshal(s.events[0].Data, &r) == nil && r.FunctionName != "" { // what was erased says nothing
		title += fmt.Sprintf(" of %s (%s)", visible(r.FunctionName), r.Runtime)
	}
	return s.style.bold(title + s.events[0].RecordedAt.UTC().Format(", 2006-01-02 15:04:05.000 UTC"))
}

// line is one event: when, where in the log, who, what.
func (s story) line(i int, e Event) string {
	what, detail := s.tell(e)
	when := fmt.Sprintf("%+10.3fs  #%-8d %-16s ", s.offsets[i].Seconds(), e.Position, e.Actor.short())
	return strings.TrimRight(s.style.dim(when)+what+" "+detail, " ")
}

// whatWidth aligns what follows.
const whatWidth = 10

// tell says what happened, in a word and in detail.
func (s story) tell(e Event) (what, detail string) {
	_, what, _ = strings.Cut(e.Type, ".")
	switch {
	case e.Erased:
		return pad(what), "(erased with its account)"
	case e.Archived:
		return pad(what), "(in the archive)"
	}
	switch e.Type {
	case "execution.requested":
		var r requested
		_ = json.Unmarshal(e.Data, &r)
		return pad(what), fmt.Sprintf("by %s in request %s: %s", e.Actor, e.CorrelationID, excerpt(r.Input))
	case "execution.started":
		return pad(what), "by " + e.Actor.String()
	case "execution.log_line":
		return s.tellLine(e)
	case "execution.completed", "execution.failed":
		return s.tellEnd(e, what)
	}
	return pad(what), excerpt(e.Data)
}

func (s story) tellLine(e Event) (what, detail string) {
	var line struct{ Stream, Text string }
	_ = json.Unmarshal(e.Data, &line)
	if line.Stream == "stdout" {
		return pad(line.Stream), visible(line.Text)
	}
	return s.style.yellow(pad(line.Stream)), visible(line.Text)
}

func (s story) tellEnd(e Event, what string) (string, string) {
	var end struct {
		Output     json.RawMessage
		Error      string
		ErrorType  string `json:"error_type"`
		Stack      string
		DurationMS int64 `json:"duration_ms"`
		MemoryMB   int   `json:"memory_used"`
	}
	_ = json.Unmarshal(e.Data, &end)
	spent := fmt.Sprintf("in %d ms and %d MB: ", end.DurationMS, end.MemoryMB)
	if e.Type == "execution.completed" {
		return s.style.green(pad(what)), spent + excerpt(end.Output)
	}
	detail := spent + visible(end.ErrorType+": "+end.Error)
	for line := range strings.Lines(end.Stack) {
		detail += "\n" + strings.Repeat(" ", 14) + s.style.dim(visible(strings.TrimRight(line, "\n")))
	}
	return s.style.red(pad(what)), detail
}

// end says how it ended, if it has.
func (s story) end() string {
	last := len(s.events) - 1
	switch s.events[last].Type {
	case "execution.completed":
		return s.style.bold(fmt.Sprintf("It succeeded after %.3f s.", s.offsets[last].Seconds()))
	case "execution.failed":
		return s.style.bold(fmt.Sprintf("It failed after %.3f s.", s.offsets[last].Seconds()))
	}
	return s.style.bold("It has not ended yet.")
}

func pad(word string) string { return fmt.Sprintf("%-*s", whatWidth, word) }

// excerptLength is how much is shown of an input or an output, in characters.
const excerptLength = 200

func excerpt(content json.RawMessage) string {
	text := []rune(visible(string(content)))
	if len(text) > excerptLength {
		return string(text[:excerptLength]) + "…"
	}
	return string(text)
}

// visible spells out what a function printed to steer a terminal and not to be read.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\t' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

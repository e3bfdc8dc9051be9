package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func fact(eventType string, recorded time.Duration, data string) Event {
	return Event{Position: 7, Type: eventType, StreamID: "x", RecordedAt: noon.Add(recorded), Data: json.RawMessage(data)}
}

func printed(recorded, at time.Duration) Event {
	return fact("execution.log_line", recorded, fmt.Sprintf(`{"stream":"stdout","text":"t","at":%q}`, noon.Add(at).Format(time.RFC3339Nano)))
}

func TestAStoryNeverGoesBackInTime(t *testing.T) {
	t.Parallel()
	s := newStory([]Event{
		fact("execution.requested", 0, "{}"),
		fact("execution.started", 10*time.Millisecond, "{}"),
		printed(80*time.Millisecond, 30*time.Millisecond),
		printed(80*time.Millisecond, 40*time.Millisecond),
		printed(90*time.Millisecond, -time.Hour), // by a clock that is slow
		printed(95*time.Millisecond, time.Hour),  // by one that is fast
		fact("execution.log_line", 99*time.Millisecond, "null"),
		fact("execution.completed", 100*time.Millisecond, "{}"),
	}, false)
	var ms []int64
	for _, offset := range s.offsets {
		ms = append(ms, offset.Milliseconds())
	}
	require.Equal(t, []int64{0, 10, 30, 40, 40, 95, 99, 100}, ms)
	require.Equal(t, "It succeeded after 0.100 s.", s.end())
	require.Equal(t, "It has not ended yet.", newStory(s.events[:3], false).end())
}

func TestAStoryTellsWhatCannotBeReadAnyMore(t *testing.T) {
	t.Parallel()
	events := []Event{
		{Type: "execution.requested", StreamID: "x", RecordedAt: noon, Erased: true, Actor: Actor{Kind: "system"}},
		{Type: "execution.log_line", RecordedAt: noon, Archived: true, Actor: Actor{Kind: "worker", ID: "w"}},
		fact("execution.paused", 0, `{"by":"somebody"}`),
		fact("execution.failed", 0, `{"error":"boom","error_type":"TypeError","stack":"at a.js:1\nat b.js:2","duration_ms":3,"memory_used":4}`),
	}
	s := newStory(events, false)
	require.Equal(t, "Execution x, 2026-11-23 12:00:00.000 UTC", s.title())
	require.Contains(t, s.line(0, events[0]), "VoltRun          requested  (erased with its account)")
	require.Contains(t, s.line(1, events[1]), "log_line   (in the archive)")
	require.Contains(t, s.line(2, events[2]), `paused     {"by":"somebody"}`, "what a later version writes is told as it is")
	require.Contains(t, s.line(3, events[3]), "failed     in 3 ms and 4 MB: TypeError: boom\n              at a.js:1\n              at b.js:2")
	require.Equal(t, "It failed after 0.000 s.", s.end())
}

func TestNothingThatIsToldSteersATerminal(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a\tb é 漢 \\x1b[2J\\r\\a\\u202e\\x7f'\"�", visible("a\tb é 漢 \x1b[2J\r\a\u202e\x7f'\"\xff"))
	require.Equal(t, strings.Repeat("é", 200)+"…", excerpt(json.RawMessage(strings.Repeat("é", 300))))
}

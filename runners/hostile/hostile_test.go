// Package hostile runs handlers that attack the host, the server, other functions and their own next invocation. Each has
// one outcome, and nothing that it did may be left.
package hostile

import (
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/runners/sandbox"
)

// attack is a handler that misbehaves in its first invocation. The next one must answer as if nothing had been.
type attack struct {
	name    string
	runtime string
	code    string // defines attack(e); see testdata for what it may use, and input for e
	setup   string // runs when the code is loaded

	want  string // the output, which the handler itself has found out; allRefused when empty
	fails string // or the type of the error
	// harmsItself is how the function's next invocation fails, where nothing can keep it from that: what a function knows of
	// its own process it can use against it. The one after that must be well.
	harmsItself string
	log         func(t *testing.T, lines []domain.ExecutionLogLine)

	timeout int            // seconds; 20 when 0
	network domain.Network // none when empty
	notOn   map[string]string
}

// What most handlers return.
const (
	allRefused = `"all refused"`
	bounded    = `"bounded"`
	done       = `"done"`
	unharmed   = `"unharmed"`
)

// input is what a handler learns of what it may attack.
type input struct {
	Attack    bool   `json:"attack"`
	Wait      int    `json:"wait"` // milliseconds that the next invocation takes, so that what comes late meets it
	Mark      string `json:"mark"` // a number of seconds that nothing else on the host sleeps
	Canary    string `json:"canary"`
	Temporary string `json:"temporary"` // the server's folder
	Server    int    `json:"server"`    // its process
	First     int    `json:"first"`     // the sandbox's first process, unless that is the function's own
	Neighbour int    `json:"neighbour"` // that of another function
	Slot      string `json:"slot"`      // the folder with that one's code
	Home      string `json:"home"`      // and where it may write
	Addresses []addr `json:"addresses"` // of TCP, which the server listens on
	Unix      string `json:"unix"`
	Abstract  string `json:"abstract"`
	Postgres  string `json:"postgres"`
}

type addr struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

//go:embed testdata/prelude.py
var preludePython string

//go:embed testdata/prelude.cjs
var preludeNode string

func (a attack) function() domain.Function {
	prelude := preludeNode
	if a.runtime == "python" {
		prelude = preludePython
	}
	f := newFunction(a.runtime, a.setup+"\n"+prelude+a.code)
	if a.timeout != 0 {
		f.TimeoutSec = a.timeout
	}
	if a.network != "" {
		f.Network = a.network
	}
	return f
}

// groups are all attacks, by what they are aimed at.
var groups = map[string][]attack{
	"reading": reading, "signals": signals, "bombs": bombs, "floods": floods, "channel": channel, "leaving": leaving, "files": files,
	"kernel": kernel, "network": networks, "rights": rights, "time": times, "patching": patching, "values": values, "late": late,
}

func TestHostileHandlers(t *testing.T) {
	for _, driver := range []string{sandbox.Auto, "native", "landlock"} {
		t.Run(driver, func(t *testing.T) { // one after the other: each looks at what the whole host has
			w := newWorld(t, driver)
			w.first = driver == sandbox.Auto
			t.Run("try", w.tryAll)
			w.end(t)
		})
	}
}

// shimsAlone are groups whose attacks meet the shims and the pool, which are the same in every sandbox: one will do.
var shimsAlone = []string{"values", "patching", "late", "time", "floods"}

func (w *world) tryAll(t *testing.T) {
	for group, attacks := range groups {
		if !w.first && slices.Contains(shimsAlone, group) {
			continue
		}
		for _, a := range attacks {
			t.Run(group+" "+a.runtime+" "+a.name, func(t *testing.T) {
				t.Parallel()
				w.suffer(t, a, group == "late" || group == "leaving")
			})
		}
	}
}

// suffer runs an attack, looks at the host, and runs the function again.
func (w *world) suffer(t *testing.T, a attack, comesLate bool) {
	if why, ok := a.notOn[w.driver.Enforcement().Driver]; ok {
		t.Skip(why)
	}
	f, in := a.function(), w.input()
	r := w.run(t, f, in)
	if a.fails != "" {
		failed, ok := r.end.(domain.ExecutionFailed)
		require.True(t, ok, "it ended as %s with log %v", shown(r.end), r.tail())
		require.Equal(t, a.fails, failed.ErrorType, "%s, log %v", shown(r.end), r.tail())
	} else {
		want := a.want
		if want == "" {
			want = allRefused
		}
		completed, ok := r.end.(domain.ExecutionCompleted)
		require.True(t, ok, "it ended as %s with log %v", shown(r.end), r.tail())
		require.Equal(t, want, clipped(string(completed.Output)))
	}
	if a.log != nil {
		a.log(t, r.lines)
	}
	w.requireUnharmed(t)
	in.Attack = false
	if comesLate {
		in.Wait = 150
	}
	again := w.run(t, f, in)
	if failed, ok := again.end.(domain.ExecutionFailed); ok && failed.ErrorType == a.harmsItself {
		again = w.run(t, f, in)
	}
	completed, ok := again.end.(domain.ExecutionCompleted)
	require.True(t, ok, "the next invocation ended as %s with log %v", shown(again.end), again.tail())
	require.Equal(t, unharmed, string(completed.Output))
	require.Empty(t, again.lines, "the next invocation printed nothing")
	w.requireGone(t, in.Mark)
}

func shown(end domain.Event) string {
	text, _ := json.Marshal(end)
	return clipped(fmt.Sprintf("%s %s", end.EventType(), text))
}

func clipped(text string) string {
	const most = 1000
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

func (r recorded) tail() []domain.ExecutionLogLine { return r.lines[max(0, len(r.lines)-5):] }

func TestThereAreEnoughHostileHandlers(t *testing.T) {
	t.Parallel()
	counts, names := map[string]int{}, map[string]bool{}
	for group, attacks := range groups {
		for _, a := range attacks {
			name := group + " " + a.runtime + " " + a.name
			require.False(t, names[name], name)
			names[name] = true
			counts[a.runtime]++
			require.Contains(t, a.code, "attack", name)
		}
	}
	require.GreaterOrEqual(t, counts["nodejs"], 30)
	require.GreaterOrEqual(t, counts["python"], 30)
}

// oneOf makes attacks that differ only in what stands for a word of the code.
func oneOf(a attack, word string, pieces map[string]string) (all []attack) {
	for name, piece := range pieces {
		one := a
		one.name, one.code = a.name+name, strings.ReplaceAll(a.code, word, piece)
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b attack) int { return strings.Compare(a.name, b.name) })
	return all
}

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // most handlers wait
	code := 1
	if folder, err := temporaryFolder(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

const patience = 10 * time.Second

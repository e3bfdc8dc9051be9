package rest_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest/resttest"
	"github.com/voltrun/voltrun/projections"
)

const (
	historySteps = 60 // how many commands a random history has
	historySeeds = 2
)

// said is what the live API said to somebody at a position.
type said struct {
	witness  *witness
	position projections.Position
	answers  map[string]string // by address
}

// What was said of the read models at any position is what they are said to have been then, to the byte.
func TestThePastIsWhatTheLiveTablesSaid(t *testing.T) {
	t.Parallel()
	for seed := range uint64(historySeeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := resttest.Start(t)
			random := rand.New(rand.NewPCG(seed, 1))
			in := &world{}
			witnesses := []*witness{newWitness(t, s, random, in), newWitness(t, s, random, in)}
			var history []said
			for range historySteps {
				witnesses[random.IntN(2)].act()
				s.CatchUp(t)
				for _, w := range witnesses {
					history = append(history, said{w, s.Head(t), w.ask(w.questions())})
				}
			}
			for _, then := range history {
				then.requireTheSame(t, fmt.Sprint(then.position))
			}
			for range 20 {
				then := history[random.IntN(len(history))]
				then.requireTheSame(t, recordedAt(t, s, then.position).Format(time.RFC3339Nano))
			}
		})
	}
}

// requireTheSame asks everything again, as of the moment.
func (then said) requireTheSame(t *testing.T, moment string) {
	t.Helper()
	again := map[string]string{}
	for question := range then.answers {
		again[question] = then.witness.askAll(question, "as_of="+url.QueryEscape(moment))
	}
	for question, answer := range then.answers {
		require.Equal(t, answer, again[question], "%s as of %s, which is position %d", question, moment, then.position)
	}
}

// ask remembers the answers to questions.
func (w *witness) ask(questions []string) map[string]string {
	answers := map[string]string{}
	for _, question := range questions {
		answers[question] = w.askAll(question, "")
	}
	return answers
}

// askAll reads an address to the end of its pages, and returns all that was answered.
func (w *witness) askAll(address, more string) string {
	w.t.Helper()
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	var answers strings.Builder
	for next := address + separator + more; next != ""; {
		got := w.call("GET", next, "")
		require.Contains(w.t, []int{http.StatusOK, http.StatusNotFound}, got.StatusCode, "%s: %s", next, got.body)
		fmt.Fprintf(&answers, "%d %s", got.StatusCode, got.body)
		next = ""
		if match := nextLink.FindStringSubmatch(got.Header.Get("Link")); match != nil {
			next = match[1] + "?" + match[2]
		}
	}
	return answers.String()
}

// questions are the lists, with filters and in pages, and some of the things that there are, of others as well.
func (w *witness) questions() []string {
	questions := []string{
		"/api/functions", "/api/functions?limit=2", "/api/keys", "/api/keys?limit=1",
		"/api/executions", "/api/executions?limit=3", "/api/executions?limit=2&status=success", "/api/executions?status=failed",
		"/api/executions?limit=1&status=running", "/api/executions?status=pending",
	}
	for _, function := range w.some(w.world.functions) {
		questions = append(questions, "/api/functions/"+function, "/api/executions?limit=2&function_id="+function,
			"/api/executions?function_id="+function+"&status=success")
	}
	for _, execution := range w.some(w.world.executions) {
		questions = append(questions, "/api/executions/"+execution, "/api/executions/"+execution+"/logs")
	}
	return questions
}

func (w *witness) some(ids []uuid.UUID) (some []string) {
	for _, i := range w.random.Perm(len(ids))[:min(4, len(ids))] {
		some = append(some, ids[i].String())
	}
	return some
}

func recordedAt(t *testing.T, s *resttest.Server, position projections.Position) (at time.Time) {
	t.Helper()
	require.NoError(t, s.Store.Pool().QueryRow(t.Context(), "select recorded_at from events where position = $1", position).Scan(&at))
	return at
}

func TestAnAnswerOfThePastNamesItsPosition(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	first := c.createFunction("first")
	then := s.Head(t)
	for range 3 {
		c.createFunction("later")
	}
	now := s.Head(t)
	at := recordedAt(t, s, then)

	got := c.must("GET", "/api/functions?as_of="+at.Format(time.RFC3339Nano), nil, 200)
	require.Equal(t, fmt.Sprint(then), got.Header.Get("X-VoltRun-As-Of"))
	require.Len(t, decode[[]object](t, got), 1)
	require.Empty(t, c.must("GET", "/api/functions", nil, 200).Header.Get("X-VoltRun-As-Of"))

	// In any zone, and between two events.
	kathmandu := at.Add(time.Microsecond).In(time.Local)
	got = c.must("GET", "/api/functions?as_of="+url.QueryEscape(kathmandu.Format(time.RFC3339Nano)), nil, 200)
	require.Equal(t, fmt.Sprint(then), got.Header.Get("X-VoltRun-As-Of"))

	// The pages of a list of the past are all of one moment, which the links name by its position.
	got = c.must("GET", "/api/functions?limit=2&as_of="+fmt.Sprint(now), nil, 200)
	require.Contains(t, got.Header.Get("Link"), fmt.Sprintf("as_of=%d", now))
	c.do("DELETE", "/api/functions/"+first, nil, 200)
	require.Len(t, c.walk("/api/functions", fmt.Sprintf("as_of=%d&limit=2", now)), 4)
	require.Len(t, c.walk("/api/functions", "limit=2"), 3)
}

func TestBeforeAnAccountThereIsNothing(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	register(t, s)
	before := s.Head(t)
	c, _ := register(t, s)
	function := c.createFunction("hello")
	execution := c.execute(function)
	for _, moment := range []string{"0", fmt.Sprint(before), "2001-01-01T00:00:00Z"} {
		for _, list := range []string{"/api/functions", "/api/executions", "/api/keys"} {
			require.Equal(t, "[]\n", string(c.must("GET", list+"?as_of="+moment, nil, 200).body))
		}
		for _, thing := range []string{"/api/functions/" + function, "/api/executions/" + execution, "/api/executions/" + execution + "/logs"} {
			c.must("GET", thing+"?as_of="+moment, nil, 404)
		}
	}
}

func TestADeletedFunctionCanBeSeenAsItWas(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	id := c.createFunction("short-lived")
	existed := s.Head(t)
	c.do("DELETE", "/api/functions/"+id, nil, 200)
	c.must("GET", "/api/functions/"+id, nil, 404)
	require.Equal(t, "short-lived", c.do("GET", fmt.Sprintf("/api/functions/%s?as_of=%d", id, existed), nil, 200)["name"])
	c.must("GET", fmt.Sprintf("/api/functions/%s?as_of=%d", id, existed+1), nil, 404)

	other, _ := register(t, s)
	other.must("GET", fmt.Sprintf("/api/functions/%s?as_of=%d", id, existed), nil, 404)
}

func TestTheFutureAndWhatIsNoMomentAreRefused(t *testing.T) {
	t.Parallel()
	s := resttest.Start(t)
	c, _ := register(t, s)
	head := s.Head(t)
	for _, moment := range []string{
		fmt.Sprint(head + 1), "9223372036854775806", time.Now().Add(time.Minute).UTC().Format(time.RFC3339), "9999-12-31T23:59:59Z",
		"-1", "1.5", "yesterday", "2026-11-23", "9223372036854775808", "%00", "", "1&as_of=1", "1&as_of=",
	} {
		for _, path := range []string{"/api/functions", "/api/functions/" + uuid.NewString(), "/api/keys"} {
			got := c.do("GET", path+"?as_of="+moment, nil, 400)
			require.Contains(t, got["error"], "as_of must", moment)
		}
	}
	require.Equal(t, head, s.Head(t))
}

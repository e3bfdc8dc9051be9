package rest_test

import (
	"bytes"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/eventstore/transfer"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// move imports an account from one server into another.
func move(t *testing.T, account uuid.UUID, from, to *resttest.Server) {
	t.Helper()
	var file bytes.Buffer
	key := transfer.NewKey()
	source := transfer.Source{Store: from.Store, Codec: storetest.Codec(from.Store), Name: "voltrun/source"}
	_, err := source.ExportAccount(t.Context(), key, account, transfer.AccountOptions{Unfinished: true}, &file)
	require.NoError(t, err)
	_, err = transfer.ImportAccount(t.Context(), to.Store, storetest.Codec(to.Store), key, bytes.NewReader(file.Bytes()))
	require.NoError(t, err)
	to.CatchUp(t)
}

// at is the same somebody on another server, where the tokens of all test servers are good.
func (w *witness) at(s *resttest.Server) *witness {
	there := *w
	there.url, there.server = s.URL, s
	return &there
}

// What an account was at any time is what it is said to have been then, to the byte, wherever it moved to since.
func TestThePastOfAnImportedAccountIsWhatItWasWhereItComesFrom(t *testing.T) {
	t.Parallel()
	from, to, further := resttest.Start(t), resttest.Start(t), resttest.Start(t)
	register(t, to)
	random := rand.New(rand.NewPCG(7, 1))
	in := &world{}
	w, other := newWitness(t, from, random, in), newWitness(t, from, random, in)
	var history []said
	remember := func(w *witness) {
		for range historySteps {
			w.act()
			if w.server == from {
				other.act()
			}
			w.server.CatchUp(t)
			history = append(history, said{w, w.server.Head(t), w.ask(w.questions())})
		}
	}
	remember(w)
	move(t, w.account, from, to)
	remember(w.at(to))
	move(t, w.account, to, further)

	for _, then := range history {
		moment := recordedAt(t, then.witness.server, then.position).Format(time.RFC3339Nano)
		there := said{then.witness.at(further), then.position, then.answers}
		there.requireTheSame(t, moment)
		if then.witness.server == from {
			there.witness = w.at(to)
			there.requireTheSame(t, moment)
		}
	}
	got := w.at(to).must("GET", "/api/functions?limit=1&as_of="+recordedAt(t, from, history[historySteps-1].position).Format(time.RFC3339Nano), nil, 200)
	_, err := time.Parse(time.RFC3339Nano, got.Header.Get("X-VoltRun-As-Of"))
	require.NoError(t, err, "no position stands for it")
	got = w.at(to).must("GET", "/api/functions?as_of="+url.QueryEscape(time.Now().Format(time.RFC3339Nano)), nil, 200)
	require.Regexp(t, `^\d+$`, got.Header.Get("X-VoltRun-As-Of"))
}

// told is what a history says, but for where events stand in the log.
func (w *witness) told(path, query string) (facts []string) {
	w.t.Helper()
	for _, e := range w.walkEvents(path, "limit=7&"+query) {
		if e["type"] == "account.imported" {
			continue
		}
		delete(e, "position")
		delete(e, "imported_at")
		facts = append(facts, jsonOf(e))
	}
	return facts
}

func TestTheHistoryOfAnImportedAccountTellsWhenThingsHappened(t *testing.T) {
	t.Parallel()
	from, to := resttest.Start(t), resttest.Start(t)
	register(t, to)
	in := &world{}
	w := newWitness(t, from, rand.New(rand.NewPCG(8, 1)), in)
	var times []string
	for range historySteps {
		w.act()
		times = append(times, recordedAt(t, from, from.Head(t)).Format(time.RFC3339Nano))
	}
	move(t, w.account, from, to)
	there := w.at(to)
	imported := recordedAt(t, to, to.Head(t))

	for _, id := range in.functions {
		path := "/api/functions/" + id.String() + "/events"
		require.Equal(t, w.told(path, ""), there.told(path, ""))
	}
	for _, id := range in.executions {
		path := "/api/executions/" + id.String() + "/events"
		require.Equal(t, w.told(path, ""), there.told(path, ""))
	}
	for i := 0; i < len(times); i += 5 {
		since, until := "since="+times[i], "until="+times[min(i+9, len(times)-1)]
		for _, query := range []string{since, until, since + "&" + until, since + "&order=asc&type=execution.*", until + "&type=function.updated&type=key.created"} {
			require.ElementsMatch(t, w.told("/api/audit", query), there.told("/api/audit", query), query)
		}
	}
	oldest := there.walkEvents("/api/audit", "order=asc")[0]
	require.Contains(t, oldest, "imported_at")
	require.Less(t, oldest["recorded_at"], oldest["imported_at"])

	require.NoError(t, there.makeFunction())
	today := there.walkEvents("/api/audit", "since="+imported.Add(time.Microsecond).Format(time.RFC3339Nano))
	require.Len(t, today, 1, "what happened here since")
	require.NotContains(t, today[0], "imported_at")
}

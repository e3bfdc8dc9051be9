package cli_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/cli"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
	"github.com/voltrun/voltrun/projections"
)

func TestTheOperatorSeesWhyAProjectionIsPausedAndResumesIt(t *testing.T) {
	t.Parallel()
	server := resttest.Start(t)
	_, err := server.Store.Pool().Exec(t.Context(), "alter table accounts rename column name to label")
	require.NoError(t, err)
	_, err = cli.NewClient(server.URL).Register(t.Context(), "ada@example.com", "lovelace", "Ada")
	require.NoError(t, err)
	token := resttest.OperatorToken(t)
	var out strings.Builder
	require.Eventually(t, func() bool {
		out.Reset()
		err := cli.ProjectionsStatus(t.Context(), server.URL, token, &out)
		return err != nil && strings.Contains(out.String(), "paused")
	}, 20*time.Second, 10*time.Millisecond)
	require.Contains(t, out.String(), `column "name"`)
	out.Reset()
	require.Error(t, cli.ProjectionsStatus(t.Context(), server.URL, "another server's", &out))
	require.Contains(t, out.String(), "paused")
	require.Contains(t, out.String(), "The server's log says why.")

	require.ErrorContains(t, cli.ResumeProjection(t.Context(), server.URL, token, "accounts", &out), `accounts is paused again at position 0`)
	_, err = server.Store.Pool().Exec(t.Context(), "alter table accounts rename column label to name")
	require.NoError(t, err)
	out.Reset()
	require.NoError(t, cli.ResumeProjection(t.Context(), server.URL, token, "accounts", &out))
	require.Contains(t, out.String(), "accounts goes on: it was at position 0")
	require.ErrorContains(t, cli.ResumeProjection(t.Context(), server.URL, token, "nothing/../x", &out), "There is no")
	require.ErrorContains(t, cli.ResumeProjection(t.Context(), server.URL, "", "accounts", &out), "only the operator")
}

// story is the progress of a rebuild from its beginning to its end.
func story(last projections.Progress) []projections.Progress {
	start := time.Now().Add(-10 * time.Second)
	end := start.Add(10 * time.Second)
	last.EndedAt = &end
	list := []projections.Progress{
		{State: projections.RebuildReading},
		{State: projections.RebuildReading, Done: 250_000, Total: 1_000_000, Rate: 100_000, Left: 7.5},
		{State: projections.RebuildIndexing, Done: 1_000_000, Total: 1_000_000},
		last,
	}
	for i := range list {
		list[i].Projection, list[i].StartedAt = "executions", start
	}
	return list
}

func TestProgressIsABarOnATerminalAndLinesElsewhere(t *testing.T) {
	t.Parallel()
	done := projections.Progress{State: projections.RebuildDone, Done: 1_000_100, Total: 1_000_100}
	var bar, lines strings.Builder
	drawn, printed := cli.ProgressBar(&bar, "rebuilt"), cli.ProgressLines(&lines, "rebuilt")
	for _, p := range story(done) {
		drawn(p)
		printed(p)
	}
	const end = "executions: 1000100 events rebuilt in 10s, 100010 events/s\n"
	require.True(t, strings.HasSuffix(bar.String(), end), bar.String())
	for _, want := range []string{"executions: reading, 100000 events/s, 8s left", "25%", "(250000/1000000)", "executions: indexing", "█"} {
		require.Contains(t, bar.String(), want)
	}
	require.Equal(t, end, lines.String(), "short work has no other line")
}

func TestProgressLinesComeNowAndThen(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	printed := cli.ProgressLines(&out, "rebuilt")
	story := story(projections.Progress{State: projections.RebuildCancelled, Done: 250_000, Total: 1_000_000})
	require.Eventually(t, func() bool {
		printed(story[1])
		return out.String() != ""
	}, 20*time.Second, 100*time.Millisecond)
	printed(story[1])
	printed(story[3])
	require.Equal(t, "executions: reading, 250000 of 1000000 events, 100000 events/s, 8s left\n"+
		"executions: cancelled at event 250000 of 1000000\n", out.String())
}

func TestVerificationsAreShownWithTheTablesThatDiffer(t *testing.T) {
	t.Parallel()
	good := projections.TableVerification{Table: "keys", Live: projections.Digest{Rows: 1, Hash: "aa"}, FromLog: projections.Digest{Rows: 1, Hash: "aa"}}
	bad := projections.TableVerification{Table: "execution_logs", Live: projections.Digest{Rows: 2, Hash: "bb"}, FromLog: projections.Digest{Rows: 3, Hash: "cc"}}
	var out strings.Builder
	require.NoError(t, cli.ShowVerifications(&out, []projections.Verification{{Projection: "keys", Position: 7, Tables: []projections.TableVerification{good}}}))
	require.Contains(t, out.String(), "as the log says")
	out.Reset()
	err := cli.ShowVerifications(&out, []projections.Verification{{Projection: "executions", Position: 7, Tables: []projections.TableVerification{good, bad}}})
	require.ErrorContains(t, err, "1 of 2 tables")
	require.Regexp(t, `execution_logs +2 +bb +DIFFERENT`, out.String())
	require.Regexp(t, `from the log +3 +cc`, out.String())
}

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// chatter prints fifty lines.
const chatter = `exports.handler = async () => { for (let n = 0; n < 50; n++) console.log("line", n); return "done" }`

func TestOldLinesAreArchivedWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	s := newServer(t, "VOLTRUN_PARTITION_EVENTS=1000", "VOLTRUN_RETENTION_LOG_LINE_DAYS=30")
	s.start(t)
	c, keeper := s.register(t), s.register(t)
	var retention struct {
		Own     *int `json:"execution.log_line"`
		Default struct {
			Days int `json:"execution.log_line"`
		}
	}
	keeper.must(t, http.StatusOK, "PUT", "/api/account/retention", map[string]int{"execution.log_line": 90}, &retention)
	require.Equal(t, 90, *retention.Own)
	require.Equal(t, 30, retention.Default.Days)

	function, keepers := c.createFunction(t, "nodejs", chatter), keeper.createFunction(t, "nodejs", chatter)
	first := c.runToEnd(t, function)
	kept := keeper.runToEnd(t, keepers)
	for range 20 {
		c.runToEnd(t, function)
	}
	require.Contains(t, s.run(t, "archive"), "Nothing is due")
	require.Regexp(t, `^events 1 to 1000, until [-0-9]+: \d+ lines of 1 account, [.0-9]+ MB; those of 1 account stay\n$`,
		s.run(t, "archive", "--older-than", "0s", "--dry-run"))
	require.Equal(t, first.Logs, c.awaitEnd(t, first.ID).Logs, "a dry run moves nothing")

	require.Regexp(t, `events 1 to 1000: \d+ lines moved to events-1-1000-1.ndjson.gz\nThe files are in `, s.run(t, "archive", "--older-than", "0s"))
	require.FileExists(t, filepath.Join(s.dataDir, "archive", "events-1-1000-1.ndjson.gz"))
	require.Eventually(t, func() bool { return c.awaitEnd(t, first.ID).LogsArchived }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, first.Logs, c.awaitEnd(t, first.ID).Logs, "they are read from the archive")
	var logs, moved, back executionLogs
	c.must(t, http.StatusOK, "GET", "/api/executions/"+first.ID.String()+"/logs", nil, &logs)
	require.Equal(t, executionLogs{Logs: first.Logs, Archived: true}, logs)
	require.Equal(t, 50, strings.Count(s.run(t, "replay", first.ID.String(), "--speed", "0", "--key", c.bearer), "line "), "a replay reads the archive")
	require.Equal(t, kept.Logs, keeper.awaitEnd(t, kept.ID).Logs, "who wants to keep them longer does")
	require.Contains(t, s.run(t, "projections", "verify"), "executions")
	require.Contains(t, s.run(t, "audit", "verify"), "0 are erased and 0 archived", "what is in the archive is checked as well")
	require.NoError(t, os.Rename(filepath.Join(s.dataDir, "archive"), filepath.Join(s.dataDir, "elsewhere")))
	require.Regexp(t, `0 are erased and [1-9]\d* archived[^\0]*OK: `, s.run(t, "audit", "verify"), "and the rest without it")
	require.NoError(t, s.stop(t)) // one that runs has the file open
	s.start(t)
	c.must(t, http.StatusOK, "GET", "/api/executions/"+first.ID.String()+"/logs", nil, &moved)
	require.Contains(t, moved.Missing, "50 lines were moved to the archive, and their files are not there")
	require.Equal(t, executionLogs{Archived: true, Missing: moved.Missing}, moved)
	require.NoError(t, os.Rename(filepath.Join(s.dataDir, "elsewhere"), filepath.Join(s.dataDir, "archive")))
	c.must(t, http.StatusOK, "GET", "/api/executions/"+first.ID.String()+"/logs", nil, &back)
	require.Equal(t, logs, back)
	require.Equal(t, first.Logs, c.runToEnd(t, function).Logs, "all goes on")
}

type executionLogs struct {
	Logs     string
	Archived bool   `json:"logs_archived"`
	Missing  string `json:"logs_missing"`
}

func TestAnArchiveThatIsAskedForNonsenseSaysWhatItWants(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for args, says := range map[string]string{
		"--older-than=soon":        "must be a time such as 30d or 12h",
		"--older-than=-3d":         "must be a time such as 30d or 12h",
		"--older-than=1000000000d": "must be a time such as 30d or 12h",
		"--dry-run":                "there is no VoltRun in the data folder",
	} {
		cmd, out := s.command(t, "archive", args)
		require.Error(t, cmd.Run())
		require.Contains(t, out.String(), says)
	}
	entries, err := os.ReadDir(s.dataDir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// runToEnd runs a function and waits for its end.
func (c client) runToEnd(t *testing.T, function uuid.UUID) execution {
	t.Helper()
	id, err := c.execute(t.Context(), function, nil)
	require.NoError(t, err)
	return c.awaitEnd(t, id)
}

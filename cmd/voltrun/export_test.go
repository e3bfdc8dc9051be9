package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// openAccount opens an account with this address and returns its client, with an API key.
func (s *server) openAccount(t *testing.T, email string) client {
	t.Helper()
	var account struct{ Token string }
	client{url: s.url()}.must(t, http.StatusCreated, "POST", "/api/auth/register",
		map[string]string{"email": email, "password": "correct horse", "name": "Ada"}, &account)
	var key struct{ Key string }
	client{s.url(), account.Token}.must(t, http.StatusCreated, "POST", "/api/keys", map[string]string{"name": "test"}, &key)
	return client{s.url(), key.Key}
}

// shown is what a client sees of its past.
func (c client) shown(t *testing.T, lists ...string) (lines []string) {
	t.Helper()
	for _, list := range lists {
		var items json.RawMessage
		c.must(t, http.StatusOK, "GET", list, nil, &items)
		lines = append(lines, string(items))
	}
	return lines
}

var everything = []string{"/api/functions", "/api/executions"}

func TestAnAccountMovesToAnotherServerThatRuns(t *testing.T) {
	t.Parallel()
	from, to := newServer(t), newServer(t)
	from.start(t)
	to.start(t)
	here := from.openAccount(t, "ada@example.com")
	function := here.createFunction(t, "nodejs", chatter)
	ran := here.runToEnd(t, function)
	other := to.openAccount(t, "grace@example.com")

	file, key := filepath.Join(from.dataDir, "ada.voltrun"), filepath.Join(from.dataDir, "transfer.key")
	shown := from.run(t, "export", "--account", "ADA@example.com", "--key-file", key, file)
	require.Contains(t, shown, "A new transfer key is in "+key)
	require.Regexp(t, `^\d+ events exported to `, shown)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())

	require.Regexp(t, `^Account [-0-9a-f]{36} is here, with \d+ events\.`, to.run(t, "import", "--key-file", key, file))
	there := client{to.url(), here.bearer}
	require.Eventually(t, func() bool {
		status, err := there.call(t.Context(), "GET", "/api/auth/me", nil, nil)
		return err == nil && status == http.StatusOK
	}, 30*time.Second, 10*time.Millisecond, "the API key works")
	require.Equal(t, here.shown(t, everything...), there.shown(t, everything...))
	require.Equal(t, from.replayed(t, here, ran.ID), to.replayed(t, there, ran.ID))
	client{url: to.url()}.must(t, http.StatusOK, "POST", "/api/auth/login", map[string]string{"email": "ada@example.com", "password": "correct horse"}, nil)
	require.Equal(t, json.RawMessage(`"done"`), there.runToEnd(t, function).Output)
	require.Equal(t, json.RawMessage(`"done"`), other.runToEnd(t, other.createFunction(t, "nodejs", chatter)).Output)

	require.Contains(t, to.run(t, "audit", "verify"), "OK: every event is there")
	cmd, out := to.command(t, "import", "--key-file", key, file)
	require.Error(t, cmd.Run())
	require.Contains(t, out.String(), "is here already")
}

var place = regexp.MustCompile(`#\d+ +`)

// replayed is what a replay tells, but for the places in the log.
func (s *server) replayed(t *testing.T, c client, id uuid.UUID) string {
	t.Helper()
	return place.ReplaceAllString(s.run(t, "replay", id.String(), "--speed", "0", "--key", c.bearer), "")
}

func TestAWholeLogMovesToANewServer(t *testing.T) {
	t.Parallel()
	from, to := newServer(t), newServer(t)
	from.start(t)
	c := from.openAccount(t, "ada@example.com")
	function := c.createFunction(t, "nodejs", chatter)
	c.runToEnd(t, function)
	before := c.shown(t, everything...)
	require.NoError(t, from.stop(t))
	signed := regexp.MustCompile(`(\d+) in the database`).FindStringSubmatch(from.run(t, "audit", "verify"))[1]

	file := filepath.Join(from.dataDir, "all.voltrun")
	key := regexp.MustCompile(`\n  ([0-9a-f]{64})\n`).FindStringSubmatch(from.run(t, "export", file))
	require.NotNil(t, key)
	cmd, out := from.command(t, "export", file)
	require.Error(t, cmd.Run(), "it is not overwritten")
	require.Contains(t, out.String(), file+" is there already")

	imported := to.answering(t, key[1]+"\n", "import", file)
	require.Regexp(t, `\d+ events are here, at their positions and with their commitments`, imported)
	heads := regexp.MustCompile(`(\d+) in the database`)
	verified := to.run(t, "audit", "verify")
	require.Equal(t, signed, heads.FindStringSubmatch(verified)[1], "the heads from there verify here")
	to.start(t)
	there := client{to.url(), c.bearer}
	require.Equal(t, before, there.shown(t, everything...))
	require.Equal(t, json.RawMessage(`"done"`), there.runToEnd(t, function).Output)
	require.Contains(t, to.run(t, "audit", "verify"), "OK: every event is there")
}

// answering is run with something to read.
func (s *server) answering(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd, out := s.command(t, args...)
	cmd.Stdin = bytes.NewReader([]byte(input))
	require.NoError(t, cmd.Run(), "%v: %s", args, out)
	return out.String()
}

func TestATransferThatCannotBeSaysWhyAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	from, to := newServer(t), newServer(t)
	from.start(t)
	from.openAccount(t, "ada@example.com")
	dir := publicTempDir(t)
	file, key := filepath.Join(dir, "all.voltrun"), filepath.Join(dir, "key")
	from.run(t, "export", "--key-file", key, file)
	junk, wrong := filepath.Join(dir, "junk"), filepath.Join(dir, "wrong")
	require.NoError(t, os.WriteFile(junk, []byte("junk"), 0o600))
	require.NoError(t, os.WriteFile(wrong, []byte(fmt.Sprintf("%064d", 7)), 0o600))
	for _, c := range []struct {
		s    *server
		says string
		args []string
	}{
		{to, "read the export", []string{"import", "--key-file", key, filepath.Join(dir, "nothing")}},
		{to, "read the transfer key", []string{"import", "--key-file", filepath.Join(dir, "nothing"), file}},
		{to, "a transfer key is 64 hex digits", []string{"import", "--key-file", junk, file}},
		{to, "was exported with another transfer key", []string{"import", "--key-file", wrong, file}},
		{to, "is no export of a VoltRun", []string{"import", "--key-file", key, junk}},
		{to, "no transfer key was given", []string{"import", file}},
		{to, "there is no VoltRun in the data folder", []string{"export", filepath.Join(dir, "new")}},
		{from, "has events already", []string{"import", "--key-file", key, file}},
		{from, "nothing of it was imported here", []string{"import", "--abandon", uuid.NewString()}},
		{from, "is not the id of an account", []string{"import", "--abandon", "ada"}},
		{from, "unknown command", []string{"import", "--abandon", uuid.NewString(), file}},
		{from, "There is no account with the email address bob@example.com", []string{"export", "--account", "bob@example.com", filepath.Join(dir, "new")}},
		{from, "there is no such account", []string{"export", "--account", uuid.NewString(), filepath.Join(dir, "new")}},
		{from, "--unfinished is for an account", []string{"export", "--unfinished", filepath.Join(dir, "new")}},
		{from, "no such file or directory", []string{"export", filepath.Join(dir, "no folder", "new")}},
	} {
		cmd, out := c.s.command(t, c.args...)
		require.Error(t, cmd.Run(), "%v", c.args)
		require.Contains(t, out.String(), c.says, "%v", c.args)
	}
	entries, err := os.ReadDir(to.dataDir)
	require.NoError(t, err)
	require.Empty(t, entries)
	entries, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 4, "no draft and no export that is not whole")
}

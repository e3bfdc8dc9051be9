package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
)

// awaitSigned waits until everything that has happened is covered by a signed head, and returns its size.
func (s *server) awaitSigned(t testing.TB) int {
	t.Helper()
	var health struct {
		Log   struct{ Head int }
		Proof struct{ Size int }
	}
	require.Eventually(t, func() bool {
		status, err := client{url: s.url()}.call(context.Background(), "GET", "/health", nil, &health)
		return err == nil && status == http.StatusOK && health.Proof.Size == health.Log.Head
	}, time.Minute, 10*time.Millisecond, "what has happened is not signed")
	return health.Proof.Size
}

// fail runs a command to its end, which must be bad, and returns what it printed.
func (s *server) fail(t testing.TB, args ...string) string {
	t.Helper()
	return s.failWith(t, 1, args...)
}

// failWith is fail with another exit code.
func (s *server) failWith(t testing.TB, code int, args ...string) string {
	t.Helper()
	cmd, out := s.command(t, args...)
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Run(), &exit, "%v: %s", args, out)
	require.Equal(t, code, exit.ExitCode(), "%s", out)
	return out.String()
}

// registered opens an account and returns a client for it, and its address.
func (s *server) registered(t *testing.T) (c client, email string) {
	t.Helper()
	email = uuid.NewString() + "@example.com"
	var account struct{ Token string }
	client{url: s.url()}.must(t, http.StatusCreated, "POST", "/api/auth/register",
		map[string]string{"email": email, "password": "correct horse", "name": "Ada"}, &account)
	return client{s.url(), account.Token}, email
}

func TestAnOperatorVerifiesTheLogAndHandsOutBundlesThatAnybodyCanCheck(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	require.Contains(t, s.fail(t, "audit", "key"), "a server makes it at its first start")
	s.start(t)
	c, email := s.registered(t)
	function := c.createFunction(t, "nodejs", "exports.handler = (event) => { console.log('Hello, ' + event.name); return 1 }")
	execution, err := c.execute(t.Context(), function, map[string]string{"name": "Ada"})
	require.NoError(t, err)
	c.awaitEnd(t, execution)
	signed := s.awaitSigned(t)

	key := strings.TrimSpace(s.run(t, "audit", "key"))
	said := s.run(t, "audit", "verify")
	require.Contains(t, said, "OK: every event is there, in its place")
	require.Contains(t, said, key)
	require.Contains(t, said, "in heads.log")

	head := filepath.Join(t.TempDir(), "head.txt")
	require.NoError(t, os.WriteFile(head, c.download(t, "/api/audit/checkpoint"), 0o600))
	require.Contains(t, s.run(t, "audit", "verify", "--head", head), "1 that was kept")

	folder := t.TempDir()
	for name, args := range map[string][]string{
		"account": {"--account", email}, "execution": {"--execution", execution.String()}, "all": {"--all"},
	} {
		file := filepath.Join(folder, name+".ndjson")
		require.Contains(t, s.run(t, append([]string{"audit", "bundle", file}, args...)...), "--key "+key)
		require.Contains(t, elsewhere(t, "audit", "verify", "--bundle", file, "--key", key, "--head", head), "OK: ")
		out, err := exec.Command("node", "../../docs/verify-bundle.mjs", file, key).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	downloaded := filepath.Join(folder, "downloaded.ndjson")
	require.NoError(t, os.WriteFile(downloaded, c.download(t, "/api/audit/bundle"), 0o600))
	require.Contains(t, elsewhere(t, "audit", "verify", "--bundle", downloaded, "--key", key), "NOT PROVED: that there are no other events")

	require.NoError(t, s.stop(t))
	require.Contains(t, s.run(t, "audit", "verify", "--head", head), "OK: ", "without a server as well")
	require.Equal(t, key, strings.TrimSpace(s.run(t, "audit", "key")))
	info, err := os.Stat(filepath.Join(s.dataDir, proofKeyFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	s.start(t)
	s.registered(t)
	require.Greater(t, s.awaitSigned(t), signed)
	require.Contains(t, s.run(t, "audit", "verify", "--head", head), "OK: ", "a restart goes on where it was")
}

// elsewhere runs a command as somebody who has nothing of the server.
func elsewhere(t testing.TB, args ...string) string {
	t.Helper()
	nobody := &server{dataDir: filepath.Join(t.TempDir(), "nothing"), port: "1", env: []string{"PATH=/nowhere"}}
	said := nobody.run(t, args...)
	require.NoDirExists(t, nobody.dataDir)
	return said
}

// download returns a body as it is.
func (c client) download(t testing.TB, path string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", c.url+path, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+c.bearer)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", body)
	return body
}

func TestWhatTheOwnerOfTheDatabaseAltersIsFoundAndTheServerSaysSo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c, _ := s.registered(t)
	c.createFunction(t, "nodejs", "exports.handler = () => 1")
	s.awaitSigned(t)
	conn := s.connect(t)
	_, err := conn.Exec(t.Context(), "set session_replication_role = replica; update events set actor_id = gen_random_uuid() where position = 3")
	require.NoError(t, err)
	said := s.fail(t, "audit", "verify")
	require.Regexp(t, `WRONG +The event at position 3 \(.*\) is not the one that was recorded`, said)
	require.Contains(t, said, "voltrun: this is not what was recorded and signed")

	_, err = conn.Exec(t.Context(), "truncate heads, tiles")
	require.NoError(t, err)
	c.createFunction(t, "nodejs", "exports.handler = () => 2")
	require.Eventually(t, func() bool {
		var health struct{ Error string }
		status, err := client{url: s.url()}.call(context.Background(), "GET", "/health", nil, &health)
		return err == nil && status == http.StatusServiceUnavailable && health.Error == "The proof of history does not hold."
	}, time.Minute, 10*time.Millisecond)
	require.Contains(t, s.fail(t, "audit", "verify"), "is not in the database any more")
}

func TestAMasterKeyThatDoesNotFitIsNotTakenForTampering(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	c, _ := s.registered(t)
	c.createFunction(t, "nodejs", "exports.handler = () => 1")
	s.awaitSigned(t)
	wanted, err := config{DataDir: s.dataDir}.masterKeys()
	require.NoError(t, err)
	given, err := eventstore.ParseMasterKey(strings.Repeat("5e", 32))
	require.NoError(t, err)
	s.env = append(s.env, "VOLTRUN_MASTER_KEY="+given.Hex())
	said := s.failWith(t, 2, "audit", "verify")
	require.Contains(t, said, "the master key does not fit, which says nothing about history")
	require.Contains(t, said, "payloads need ["+wanted[0].ID().String()+"], but VOLTRUN_MASTER_KEY has ["+given.ID().String()+"]")
	require.Regexp(t, `NOT CHECKED  what \d+ events say`, said)
	require.NotContains(t, said, "WRONG")
	require.NotContains(t, said, "OK:")

	_, err = s.connect(t).Exec(t.Context(), "set session_replication_role = replica; update events set actor_id = gen_random_uuid() where position = 3")
	require.NoError(t, err)
	said = s.fail(t, "audit", "verify")
	require.Regexp(t, `WRONG +The event at position 3 `, said)
	require.Contains(t, said, "NOT CHECKED")
}

func TestAServerWithAnotherProofKeyOnTheSameDatabaseSaysWhatToDo(t *testing.T) {
	t.Parallel()
	_, one, other := newShared(t)
	for _, s := range []*server{one, other} {
		s.env = slices.DeleteFunc(s.env, func(v string) bool { return strings.HasPrefix(v, "VOLTRUN_PROOF_KEY=") })
	}
	one.start(t)
	one.registered(t)
	one.awaitSigned(t)

	other.launch(t, "serve")
	var health struct {
		Error string
		Proof struct{ Error string }
	}
	require.Eventually(t, func() bool {
		status, err := client{url: other.url()}.call(context.Background(), "GET", "/health", nil, &health)
		return err == nil && status == http.StatusServiceUnavailable && health.Proof.Error != ""
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, "The log is signed by another key than this server's.", health.Error)
	require.Contains(t, health.Proof.Error, "is signed by "+strings.SplitN(strings.TrimSpace(one.run(t, "audit", "key")), "+", 2)[0])
	require.Contains(t, health.Proof.Error, "copy the file proof_key from the data folder of the one that signs into its own")
	require.NotContains(t, health.Proof.Error, other.dataDir)
	require.Contains(t, other.output.String(), filepath.Join(other.dataDir, proofKeyFile), "its log names the file")
	require.NoError(t, other.stop(t))

	key, err := os.ReadFile(filepath.Join(one.dataDir, proofKeyFile))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(other.dataDir, proofKeyFile), key, 0o600))
	other.start(t)
	other.registered(t)
	other.awaitSigned(t)
	one.awaitSigned(t)
}

func TestWhatIsAskedWronglyOfAnAuditIsToldWhatToDo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t)
	_, email := s.registered(t)
	s.awaitSigned(t)
	file := filepath.Join(t.TempDir(), "bundle.ndjson")
	for _, c := range []struct {
		said string
		args []string
	}{
		{"--all for the whole log", []string{"audit", "bundle", file}},
		{"--all for the whole log", []string{"audit", "bundle", file, "--all", "--account", email}},
		{"There is no account with the email address nobody@example.com", []string{"audit", "bundle", file, "--account", "nobody@example.com"}},
		{"There are no such events", []string{"audit", "bundle", file, "--account", uuid.NewString()}},
		{"is not the id of an execution", []string{"audit", "bundle", file, "--execution", "x"}},
		{"since must be between 1 and", []string{"audit", "bundle", file, "--all", "--since", "100000"}},
	} {
		require.Contains(t, s.fail(t, c.args...), c.said, "%v", c.args)
	}
	for said, args := range map[string][]string{
		"is not a public key": {"--key", "x"}, "no such file": {"--head", file}, "open " + file: {"--bundle", file},
		"unknown flag": {"--all"}, "unknown command": {file},
	} {
		require.Contains(t, s.failWith(t, 2, append([]string{"audit", "verify"}, args...)...), said, "%v", args)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Empty(t, left, "a bundle is written whole or not at all")

	other := newServer(t, "VOLTRUN_PROOF_KEY=PRIVATE+KEY+nonsense")
	cmd, out := other.command(t, "serve")
	require.Error(t, cmd.Run())
	require.Equal(t, exitUsage, cmd.ProcessState.ExitCode())
	require.Contains(t, out.String(), "VOLTRUN_PROOF_KEY: the signing key cannot be used")
}

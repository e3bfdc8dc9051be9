package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/proof"
	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// signed waits until the keeper of a server has signed everything, and returns how much that is.
func signed(t testing.TB, s *resttest.Server) int64 {
	t.Helper()
	s.Keeper.Start()
	head := int64(s.Head(t))
	require.Eventually(t, func() bool { return s.Keeper.Status().Size >= head }, 30*time.Second, 5*time.Millisecond)
	return head
}

func TestACheckpointIsASignedNoteOrJSON(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	requireRefusal(t, s.call("GET", "/api/audit/checkpoint", ""), 503, "before anything is signed")
	head := signed(t, s.Server)
	note := s.must("GET", "/api/audit/checkpoint", nil, 200)
	require.Equal(t, "text/plain; charset=utf-8", note.Header.Get("Content-Type"))
	got := s.with("Accept", "application/json").do("GET", "/api/audit/checkpoint", nil, 200)
	require.Equal(t, string(note.body), got["note"])
	require.EqualValues(t, head, got["size"])
	requireTime(t, got["signed_at"])

	keys, err := proof.ParsePublicKeys(got["public_key"].(string))
	require.NoError(t, err)
	opened, err := keys.Open(string(note.body))
	require.NoError(t, err)
	require.EqualValues(t, head, opened.Size)
	require.Equal(t, opened.Root.String(), got["root"])
}

func TestAnAccountGetsProofsOfItsOwnEventsAndOfNobodyElses(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	other, _ := register(t, s.Server)
	other.createFunction("theirs")
	head := signed(t, s.Server)
	mine, theirs := 0, 0
	for position := int64(1); position <= head; position++ {
		path := fmt.Sprintf("/api/audit/events/%d/proof", position)
		for _, c := range []client{s.client, other} {
			got := c.call("GET", path, "")
			if got.StatusCode == http.StatusNotFound {
				require.Contains(t, requireRefusal(t, got, 404, path)["error"], "There is no event at position")
				continue
			}
			require.Equal(t, 200, got.StatusCode, "%s", got.body)
			if c.header.Get("Authorization") == other.header.Get("Authorization") {
				theirs++
			} else {
				mine++
			}
			requireEventProof(t, decode[proof.EventProof](t, got), position)
		}
	}
	require.Positive(t, mine)
	require.Positive(t, theirs)
	require.LessOrEqual(t, int64(mine+theirs), head)
}

// requireEventProof checks a proof as somebody would who gets nothing else, by making a bundle of it.
func requireEventProof(t *testing.T, p proof.EventProof, position int64) {
	t.Helper()
	require.Equal(t, position, p.Position)
	var bundle strings.Builder
	lines := json.NewEncoder(&bundle)
	require.NoError(t, lines.Encode(proof.Header{
		Format: "voltrun bundle", Version: 1, PublicKey: p.Checkpoint.PublicKey, Head: p.Checkpoint.Note,
	}))
	require.NoError(t, lines.Encode(p.Line))
	require.NoError(t, lines.Encode(proof.End{Events: 1}))
	report, err := proof.VerifyBundle(strings.NewReader(bundle.String()), proof.BundleVerification{})
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.EqualValues(t, 1, report.Opened)
}

func TestABundleHoldsAnAccountsOwnEventsAndVerifies(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	other, who := register(t, s.Server)
	other.createFunction("theirs")
	older := signed(t, s.Server)
	s.createFunction("later")
	signed(t, s.Server)

	got := s.must("GET", fmt.Sprintf("/api/audit/bundle?since=%d", older), nil, 200)
	require.Equal(t, "application/x-ndjson", got.Header.Get("Content-Type"))
	require.Contains(t, got.Header.Get("Content-Disposition"), ".ndjson")
	report, err := proof.VerifyBundle(strings.NewReader(string(got.body)), proof.BundleVerification{})
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Equal(t, s.who["user"].(object)["id"], report.Header.Account.String())
	require.Equal(t, older, report.Header.Since.Size)
	require.Contains(t, string(got.body), "later")
	require.NotContains(t, string(got.body), "theirs")
	require.NotContains(t, string(got.body), who["user"].(object)["id"])

	one := s.must("GET", "/api/audit/bundle?execution="+s.ids["executions"], nil, 200)
	require.Equal(t, 3, strings.Count(string(one.body), "\n"), "a header, the request and the end")
	requireRefusal(t, other.call("GET", "/api/audit/bundle?execution="+s.ids["executions"], ""), 404, "somebody else's execution")
	require.Empty(t, s.must("HEAD", "/api/audit/bundle", nil, 200).body)
}

func TestANewerHeadIsProvedToContinueTheOneThatACallerHas(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	older := signed(t, s.Server)
	s.createFunction("later")
	newer := signed(t, s.Server)
	got := s.do("GET", fmt.Sprintf("/api/audit/consistency?from=%d&to=%d", older, newer), nil, 200)
	require.EqualValues(t, older, got["from"])
	require.NotEmpty(t, got["proof"])
	require.EqualValues(t, newer, got["checkpoint"].(object)["size"])
}

func TestWhatIsAskedWronglyOfTheProofIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	head := signed(t, s.Server)
	s.nothingChanges(t, func() {
		for path, status := range map[string]int{
			"/api/audit/events/0/proof":                                404,
			"/api/audit/events/-1/proof":                               404,
			"/api/audit/events/x/proof":                                404,
			"/api/audit/events/99999999999999999999/proof":             404,
			"/api/audit/events/9223372036854775807/proof":              404,
			"/api/audit/events/2/proof?size=0":                         400,
			"/api/audit/events/2/proof?size=x":                         400,
			fmt.Sprintf("/api/audit/events/2/proof?size=%d", head+100): 404,
			"/api/audit/consistency":                                   400,
			"/api/audit/consistency?from=0":                            400,
			"/api/audit/consistency?from=1&to=x":                       400,
			fmt.Sprintf("/api/audit/consistency?from=%d", head+1):      400,
			"/api/audit/consistency?from=1&to=100000":                  404,
			"/api/audit/bundle?execution=x":                            400,
			"/api/audit/bundle?execution=" + uuid.NewString():          404,
			"/api/audit/bundle?since=-1":                               400,
			fmt.Sprintf("/api/audit/bundle?since=%d", head+1):          400,
		} {
			requireRefusal(t, s.call("GET", path, ""), status, path)
		}
		for parameter, path := range map[string]string{"since": "/api/audit/bundle", "from": "/api/audit/consistency"} {
			refusal := requireRefusal(t, s.call("GET", fmt.Sprintf("%s?%s=%d", path, parameter, head+1), ""), 400, path)
			require.Contains(t, refusal["error"], fmt.Sprintf("%s must be between 1 and %d", parameter, head), "it says what the client sent")
		}
	})
}

func TestHealthShowsTheProofAndSaysThatItIsBroken(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	head := signed(t, s.Server)
	got := newClient(t, s.Server).do("GET", "/health", nil, 200)["proof"].(object)
	require.GreaterOrEqual(t, got["size"], float64(head))
	requireTime(t, got["signed_at"])
	require.NotContains(t, got, "error")

	_, err := s.Store.Pool().Exec(t.Context(), "delete from heads")
	require.NoError(t, err)
	s.createFunction("later")
	require.Eventually(t, func() bool { return s.Keeper.Status().Broken != "" }, 30*time.Second, 5*time.Millisecond)
	broken := newClient(t, s.Server).call("GET", "/health", "")
	require.Equal(t, 503, broken.StatusCode)
	require.NotRegexp(t, internals, string(broken.body))
	body := decode[object](t, broken)
	require.Equal(t, "The proof of history does not hold.", body["error"])
	require.Contains(t, body["proof"].(object)["error"], "events was signed, but the newest in the database has 0")
}

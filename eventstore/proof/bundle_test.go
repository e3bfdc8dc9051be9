package proof

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func (h *history) prover() *Prover { return NewProver(h.store.Pool(), h.codec, h.archive, h.key) }

func (h *history) bundle(excerpt Excerpt) string {
	h.Helper()
	var out bytes.Buffer
	require.NoError(h, h.prover().WriteBundle(h.Context(), excerpt, &out))
	return out.String()
}

func checkBundle(t testing.TB, bundle string, v BundleVerification) *BundleReport {
	t.Helper()
	report, err := VerifyBundle(strings.NewReader(bundle), v)
	require.NoError(t, err)
	return report
}

// verifyBundleScript is the second verifier, which shares no code with the first.
const verifyBundleScript = "../../docs/verify-bundle.mjs"

// runScript checks a bundle with the second verifier.
func runScript(t testing.TB, bundle string, key ...string) (said string, ok bool) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bundle.ndjson")
	require.NoError(t, os.WriteFile(file, []byte(bundle), 0o600))
	out, err := exec.Command("node", append([]string{verifyBundleScript, file}, key...)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit, "Node.js is needed for this test")
	}
	return string(out), err == nil
}

// requireGood wants both verifiers to find nothing wrong.
func requireGood(t testing.TB, bundle string) *BundleReport {
	t.Helper()
	report := checkBundle(t, bundle, BundleVerification{})
	require.Empty(t, problems(&report.Report))
	said, ok := runScript(t, bundle)
	require.True(t, ok, said)
	require.Contains(t, said, "OK: "+fmtInt(report.Events)+" events of a log of "+fmtInt(report.Head.Size))
	return report
}

func TestABundleIsVerifiedWithNothingButItself(t *testing.T) {
	t.Parallel()
	h, head := signed(t)
	for name, c := range map[string]struct {
		excerpt Excerpt
		events  int64
	}{
		"an account":                 {Excerpt{Account: h.accounts[1]}, 450},
		"the whole log":              {Excerpt{}, head.Size},
		"an execution":               {Excerpt{Execution: h.someStream(402)}, eventsOfAnExecution},
		"an execution of an account": {Excerpt{Execution: h.someStream(402), Account: h.someAccount(402)}, eventsOfAnExecution},
	} {
		t.Run(name, func(t *testing.T) {
			report := requireGood(t, h.bundle(c.excerpt))
			require.Equal(t, c.events, report.Events)
			require.Equal(t, c.events, report.Opened)
			require.Equal(t, head.Root, report.Head.Root)
			require.Equal(t, c.excerpt.complete(), report.Header.Complete)
		})
	}
	var refusal *domain.Error
	for _, none := range []Excerpt{{Account: uuid.New()}, {Execution: uuid.New()}, {Execution: h.someStream(402), Account: uuid.New()}} {
		require.ErrorAs(t, h.prover().WriteBundle(t.Context(), none, &bytes.Buffer{}), &refusal)
		require.Equal(t, domain.NotFound, refusal.Code)
	}
}

func (h *history) someStream(position int64) (id uuid.UUID) {
	h.Helper()
	require.NoError(h, h.store.Pool().QueryRow(h.Context(), "select stream_id from events where position = $1", position).Scan(&id))
	return id
}

func (h *history) someAccount(position int64) (id uuid.UUID) {
	h.Helper()
	require.NoError(h, h.store.Pool().QueryRow(h.Context(), "select account_id from events where position = $1", position).Scan(&id))
	return id
}

func TestABundleOfAnErasedAccountVerifiesWithoutItsContent(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	h.erase(h.accounts[0])
	h.sign()
	h.tamper("update events set data = null where position = 402")
	report := requireGood(t, h.bundle(Excerpt{}))
	require.EqualValues(t, 1, report.Archived)
	require.Greater(t, report.Erased, int64(400))
	require.False(t, strings.Contains(h.bundle(Excerpt{Account: h.accounts[0]}), "Hello, Ada"))
}

func TestEveryLogSizeHasProofsThatBothVerifiersTake(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	for range 9 {
		h.grow(1)
		h.sign()
		requireGood(t, h.bundle(Excerpt{Account: h.accounts[0]}))
		requireGood(t, h.bundle(Excerpt{}))
	}
}

// lines is a bundle that a test tampers with.
type lines []map[string]any

func parseLines(t testing.TB, bundle string) (list lines) {
	t.Helper()
	for text := range strings.Lines(bundle) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		list = append(list, line)
	}
	return list
}

func (l lines) String() string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	for _, line := range l {
		_ = encoder.Encode(line) // maps of what came out of JSON
	}
	return out.String()
}

func (l lines) end() map[string]any { return l[len(l)-1] }

func replaceIn(l lines, i int, field, old, replacement string) lines {
	l[i][field] = strings.Replace(l[i][field].(string), old, replacement, 1)
	return l
}

func TestABundleThatWasTamperedWithIsRefusedByBothVerifiers(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	forger := newKey(t)
	account, whole := h.bundle(Excerpt{Account: h.accounts[0]}), h.bundle(Excerpt{})
	position := func(l lines, i int) string { return fmtInt(int64(l[i]["position"].(float64))) }
	for name, c := range map[string]struct {
		bundle string
		tamper func(lines) lines
		found  string // of the first verifier, with POSITION for the one of line 7
	}{
		"what an event says":         {account, func(l lines) lines { return replaceIn(l, 7, "content", "{", "{ ") }, "event at position POSITION .* is not what was recorded"},
		"a salt":                     {account, func(l lines) lines { l[7]["salt"] = strings.Repeat("00", 16); return l }, "event at position POSITION .* is not what was recorded"},
		"who did it":                 {account, func(l lines) lines { return replaceIn(l, 7, "leaf", "api_key", "system") }, "event at position POSITION does not stand there"},
		"who did it, in a whole log": {whole, func(l lines) lines { return replaceIn(l, 7, "leaf", "api_key", "system") }, "events of the bundle are not the 912 events that were signed"},
		"a leaf that says more":      {account, func(l lines) lines { l[7]["leaf"] = l[7]["leaf"].(string) + "more\n"; return l }, "position POSITION is not a leaf"},
		"a position": {account, func(l lines) lines {
			l[7]["position"] = l[7]["position"].(float64) + 1
			return l
		}, "is the leaf of position"},
		"the position in the leaf as well": {account, func(l lines) lines {
			was := position(l, 7)
			l[7]["position"] = 900.0
			return replaceIn(l, 7, "leaf", "\n"+was+"\n", "\n900\n")
		}, "event at position 900 does not stand there"},
		"the order":                        {account, func(l lines) lines { l[6], l[7] = l[7], l[6]; return l }, "stands behind the one at position"},
		"an event that is gone":            {account, func(l lines) lines { return append(l[:7], l[8:]...) }, "it is not whole"},
		"the end of the file that is gone": {account, func(l lines) lines { return l[:len(l)-5] }, "it is not whole"},
		"an event behind the end":          {whole, func(l lines) lines { return append(l[:912], l.end(), l[912]) }, "it is not whole"},
		"an event that is gone, in a whole log": {whole, func(l lines) lines {
			l.end()["events"] = 911
			return append(l[:7], l[8:]...)
		}, "no event at position 7"},
		"the end that is gone, in a whole log": {whole, func(l lines) lines {
			l.end()["events"] = 911
			return append(l[:912], l.end())
		}, "not the 912 events"},
		"an event that is there twice": {account, func(l lines) lines { return slices.Insert(l, 9, l[7]) }, "stands behind the one at position"},
		"a hash of a proof": {account, func(l lines) lines {
			proof := l[7]["proof"].([]any)
			proof[2] = proof[3]
			return l
		}, "event at position POSITION does not stand there"},
		"a proof that is too short":         {account, func(l lines) lines { l[7]["proof"] = l[7]["proof"].([]any)[1:]; return l }, "event at position POSITION does not stand there"},
		"a proof that is too long":          {account, func(l lines) lines { p := l[7]["proof"].([]any); l[7]["proof"] = append(p, p[0]); return l }, "event at position POSITION does not stand there"},
		"a proof that is gone":              {account, func(l lines) lines { delete(l[7], "proof"); return l }, "event at position POSITION does not stand there"},
		"a content that is gone":            {account, func(l lines) lines { l[7]["content"], l[7]["salt"] = nil, nil; return l }, "event at position POSITION .* is not in the bundle"},
		"a size":                            {account, func(l lines) lines { return replaceIn(l, 0, "head", "912", "913") }, "signature that does not fit"},
		"another signer":                    {account, func(l lines) lines { l[0]["public_key"] = forger.Public(); return l }, "is signed by voltrun/\\S+ and not by " + forger.signer.Name()},
		"another account":                   {account, func(l lines) lines { l[0]["account"] = uuid.NewString(); return l }, "position \\d+ is not one of those that the bundle is about"},
		"another execution":                 {account, func(l lines) lines { l[0]["execution"] = uuid.NewString(); return l }, "position \\d+ is not one of those that the bundle is about"},
		"an account's that is called whole": {account, func(l lines) lines { l[0]["complete"] = true; return l }, "no event at position"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			original := parseLines(t, c.bundle)
			tampered := c.tamper(parseLines(t, c.bundle)).String()
			report := checkBundle(t, tampered, BundleVerification{})
			require.Regexp(t, strings.ReplaceAll(c.found, "POSITION", position(original, 7)), problems(&report.Report))
			said, ok := runScript(t, tampered)
			require.False(t, ok, said)
			require.Contains(t, said, "NOT TRUE")
		})
	}
}

// Whoever hands out a bundle can leave out what an event says and give a reason.
func TestWhatABundleLeavesOutForAReasonThatNothingProvesIsSaidByBothVerifiers(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	account := h.bundle(Excerpt{Account: h.accounts[0]})
	system := domain.Actor{Kind: domain.ActorSystem}
	fact := domain.LogArchived{From: 1, To: 500, Types: domain.ArchivableKinds(), Except: []uuid.UUID{h.accounts[1]}}
	_, err := h.store.Append(t.Context(), h.write(uuid.New(), uuid.Nil, system, fact))
	require.NoError(t, err)
	h.sign()
	whole := h.bundle(Excerpt{})
	_, err = h.store.Append(t.Context(), h.write(h.accounts[0], h.accounts[0], system, domain.AccountErased{AccountID: h.accounts[0]}))
	require.NoError(t, err)
	h.sign()
	erased := h.bundle(Excerpt{Account: h.accounts[0]})

	leaveOut := func(bundle, reason, kind string, account uuid.UUID, most int) string {
		l := parseLines(t, bundle)
		for _, line := range l[1 : len(l)-1] {
			leaf, err := parseLeaf(line["leaf"].(string))
			require.NoError(t, err)
			if leaf.kind == kind && leaf.account == account && most > 0 {
				line["content"], line["salt"], line["reason"] = nil, nil, reason
				most--
			}
		}
		require.Zero(t, most)
		return l.String()
	}
	var upTo500 int64
	require.NoError(t, h.store.Pool().QueryRow(t.Context(),
		"select count(*) from events where position <= 500 and type = 'execution.log_line' and account_id = $1", h.accounts[0]).Scan(&upTo500))
	require.Positive(t, upTo500)
	const lines, requested = "execution.log_line", "execution.requested"
	for name, c := range map[string]struct {
		bundle   string
		unproved int // payloads
		reason   string
	}{
		"erased, of an account that lives":                   {leaveOut(account, "erased", requested, h.accounts[0], 7), 7, "erased"},
		"erased, of an account that was erased":              {leaveOut(erased, "erased", requested, h.accounts[0], 7), 0, ""},
		"erased, in the whole log without an erasure":        {leaveOut(whole, "erased", requested, h.accounts[1], 5), 5, "erased"},
		"archived, in an account's bundle":                   {leaveOut(account, "archived", lines, h.accounts[0], 3), 3, "archived"},
		"archived, as the log says":                          {leaveOut(whole, "archived", lines, h.accounts[0], 20), 0, ""},
		"archived, where the log says so only up to 500":     {leaveOut(whole, "archived", lines, h.accounts[0], 180), 180 - int(upTo500), "archived"},
		"archived, of an account that the log says is not":   {leaveOut(whole, "archived", lines, h.accounts[1], 4), 4, "archived"},
		"archived, of a type that never is":                  {leaveOut(whole, "archived", requested, h.accounts[0], 6), 6, "archived"},
		"archived, when it is not shown what was archived":   {leaveOut(leaveOut(whole, "archived", lines, h.accounts[0], 2), "erased", "log.archived", uuid.Nil, 1), 2, "archived"},
		"archived, in the bundle of an account that is gone": {leaveOut(erased, "archived", lines, h.accounts[0], 2), 2, "archived"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := requireGood(t, c.bundle)
			said, _ := runScript(t, c.bundle)
			if c.unproved == 0 {
				require.Empty(t, report.Remarks)
				require.NotContains(t, said, "NOT PROVED")
				return
			}
			sentence := fmt.Sprintf("%d payloads are absent. The bundle says that they were %s, and nothing in it proves that.", c.unproved, c.reason)
			require.Contains(t, report.Remarks, sentence)
			require.Contains(t, said, "NOT PROVED: "+sentence)
		})
	}
}

func TestABundleOfSomebodyElsesLogIsRefusedWhenTheKeyIsKnown(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	bundle := h.bundle(Excerpt{Account: h.accounts[0]})
	known := newKey(t).PublicKeys
	report := checkBundle(t, bundle, BundleVerification{Keys: &known})
	require.Contains(t, problems(&report.Report), "and not by "+known.String())
	said, ok := runScript(t, bundle, known.String())
	require.False(t, ok, said)

	own := h.key.PublicKeys
	require.Empty(t, checkBundle(t, bundle, BundleVerification{Keys: &own}).Problems)
	said, ok = runScript(t, bundle, h.key.Public())
	require.True(t, ok, said)
}

func TestABundleIsHeldAgainstAHeadThatAnAuditorKept(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.grow(300)
	kept := filepath.Join(t.TempDir(), "head.txt")
	older := h.sign()
	require.NoError(t, os.WriteFile(kept, []byte(older.Note), 0o600))
	h.grow(300)
	h.sign()
	check := BundleVerification{Kept: kept}
	since := Excerpt{Account: h.accounts[0], Since: older.Size}
	for _, good := range []string{h.bundle(since), h.bundle(Excerpt{})} {
		report := checkBundle(t, good, check)
		require.Empty(t, report.Problems)
		require.Equal(t, 1, report.Kept)
	}
	_, err := VerifyBundle(strings.NewReader(h.bundle(Excerpt{Account: h.accounts[0]})), check)
	require.ErrorContains(t, err, "voltrun audit bundle --since 304")

	h.rewriteAt(150, h.key)
	for _, forged := range []string{h.bundle(since), h.bundle(Excerpt{})} {
		report := checkBundle(t, forged, check)
		require.Regexp(t, "304 events", problems(&report.Report))
		require.Empty(t, checkBundle(t, forged, BundleVerification{}).Problems, "only the kept head tells")
	}
}

func TestTheSecondVerifierIsShort(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(verifyBundleScript)
	require.NoError(t, err)
	require.Less(t, bytes.Count(script, []byte("\n")), 150)
	require.NotContains(t, string(script), "require(")
}

func TestWhatIsNoBundleIsToldSo(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{}", "hello", `{"format":"voltrun bundle","version":2}`, "\x00\x00"} {
		_, err := VerifyBundle(strings.NewReader(text), BundleVerification{})
		require.ErrorContains(t, err, "bundle")
		said, ok := runScript(t, text)
		require.False(t, ok, said)
	}
}

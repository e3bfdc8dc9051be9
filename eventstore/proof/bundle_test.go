package proof

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
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
		"the order":             {account, func(l lines) lines { l[6], l[7] = l[7], l[6]; return l }, "stands behind the one at position"},
		"an event that is gone": {account, func(l lines) lines { return append(l[:7], l[8:]...) }, "it is not whole"},
		"an event that is gone, in a whole log": {whole, func(l lines) lines {
			l[0]["events"] = 911
			return append(l[:7], l[8:]...)
		}, "no event at position 7"},
		"the end that is gone, in a whole log": {whole, func(l lines) lines {
			l[0]["events"] = 911
			return l[:912]
		}, "not the 912 events"},
		"an event that is there twice": {account, func(l lines) lines { return append(l, l[7]) }, "stands behind the one at position"},
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

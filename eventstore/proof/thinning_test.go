package proof

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var someDay = time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)

// thinned are the times of heads that are left.
func thinned(signed []time.Time, now time.Time) (left []time.Time) {
	for i, at := range signed {
		if i+1 == len(signed) || !thinsOut(at, signed[i+1], now) {
			left = append(left, at)
		}
	}
	return left
}

func TestOldHeadsThinOutAndTheNewestAndThoseOfTheLastHoursStay(t *testing.T) {
	t.Parallel()
	var atOnce, stepwise []time.Time
	end := someDay.Add(100 * 24 * time.Hour)
	for at := someDay; at.Before(end); at = at.Add(20 * time.Second) {
		atOnce, stepwise = append(atOnce, at), append(stepwise, at)
		if len(atOnce)%180 == 0 {
			stepwise = thinned(stepwise, at)
		}
	}
	left := thinned(atOnce, end)
	require.Equal(t, left, thinned(stepwise, end), "often or seldom is the same")
	require.Equal(t, atOnce[len(atOnce)-1], left[len(left)-1])
	require.Equal(t, atOnce[len(atOnce)-540:], left[len(left)-540:], "three hours, three a minute")
	require.Less(t, len(left), 540+45*60+58*24+41+10)
	for i := 1; i < len(left); i++ {
		require.LessOrEqual(t, left[i].Sub(left[i-1]), 24*time.Hour)
	}
	require.Equal(t, []time.Time{end}, thinned([]time.Time{end}, end.AddDate(10, 0, 0)), "an idle log keeps its only head")
}

// aged is a history whose heads were signed half an hour apart, five days ago, the first at begin.
func aged(t testing.TB) (h *history, begin time.Time) {
	h = newHistory(t)
	begin = time.Now().AddDate(0, 0, -5).Truncate(time.Hour)
	at := begin
	h.keeper.now = func() time.Time { return at }
	for range 12 {
		h.grow(60)
		h.sign()
		at = at.Add(30 * time.Minute)
	}
	return h, begin
}

func (h *history) storedSizes() (sizes []int64) {
	h.Helper()
	require.NoError(h, h.store.Pool().QueryRow(h.Context(), "select array_agg(size order by size) from heads").Scan(&sizes))
	return sizes
}

func (h *history) witnessedSizes() (sizes []int64) {
	h.Helper()
	require.NoError(h, readHeadFile(h.witness.Path, h.key.PublicKeys, func(head Head) { sizes = append(sizes, head.Size) }))
	return sizes
}

func TestAKeeperThinsTheHeadsOutInTheDatabaseAndInTheFile(t *testing.T) {
	t.Parallel()
	h, _ := aged(t)
	before := h.storedSizes()
	require.Len(t, before, 12)
	require.Equal(t, before, h.witnessedSizes())
	lines, err := os.ReadFile(h.witness.Path)
	require.NoError(t, err)
	kept := filepath.Join(t.TempDir(), "kept.log")
	require.NoError(t, os.WriteFile(kept, lines, 0o600))

	h.keeper.now = time.Now
	h.sign()
	var hourly []int64
	for i := 1; i < len(before); i += 2 {
		hourly = append(hourly, before[i])
	}
	require.Equal(t, hourly, h.storedSizes())
	require.Equal(t, hourly, h.witnessedSizes())
	report := h.verify(func(v *Verification) { v.Kept = kept })
	require.Empty(t, problems(report))
	require.Equal(t, []Source{{"in heads.log", 6}, {"that was kept", 12}, {"in the database", 6}}, report.Sources)
	require.Equal(t, []string{"6 heads that was kept are not in the database, where old heads are thinned out. They were held against the events all the same."},
		report.Remarks)

	h.tamper("delete from heads where size = " + fmtInt(hourly[2]))
	require.Regexp(t, "The head of "+fmtInt(hourly[2])+" events in heads.log, signed at .*, is not in the database any more", problems(h.verify()))
}

func TestAHeadThatAnAuditorKeptWithoutItsTimeMayHaveBeenThinnedOut(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.keeper.now = func() time.Time { return time.Now().AddDate(-1, 0, 0) }
	h.grow(60)
	kept := filepath.Join(t.TempDir(), "head.txt")
	require.NoError(t, os.WriteFile(kept, []byte(h.sign().Note), 0o600))
	h.grow(60)
	h.sign()
	h.keeper.now = time.Now
	h.sign()
	require.Len(t, h.storedSizes(), 1)
	report := h.verify(func(v *Verification) { v.Kept = kept })
	require.Empty(t, problems(report))
	require.Len(t, report.Remarks, 1)
}

func TestARewrittenTailWithAFreshHeadIsFoundAfterThinning(t *testing.T) {
	t.Parallel()
	h, _ := aged(t)
	h.keeper.now = time.Now
	newest := h.sign().Size
	left := h.witnessedSizes()
	require.Len(t, left, 6)
	altered := left[2] + 5
	h.rewriteAt(altered, h.key)

	within := fmt.Sprintf("the events %d to %d", left[2]+1, left[3])
	text := problems(h.verify())
	require.Regexp(t, "Something in "+within+" is not what was signed: the head of "+fmtInt(left[3])+" events in heads.log", text)
	h.grow(10)
	_, _, err := h.keeper.turn(t.Context())
	require.True(t, IsBroken(err), "%v", err)
	require.ErrorContains(t, err, fmt.Sprintf("history of %d events in the database does not begin with the one of %[1]d", newest))
	require.ErrorContains(t, err, "something is different in "+within)
}

func TestAHeadThatDoesNotFitIsNotThinnedOutOfTheFileAndNothingIsSigned(t *testing.T) {
	t.Parallel()
	h, begin := aged(t)
	other := newHistory(t)
	other.key, other.keeper.key = h.key, h.key
	other.grow(100)
	foreign, err := json.Marshal(witnessed{begin.Add(time.Minute), other.sign().Note})
	require.NoError(t, err)
	lines, err := os.ReadFile(h.witness.Path)
	require.NoError(t, err)
	first, rest, _ := bytes.Cut(lines, []byte("\n"))
	require.NoError(t, os.WriteFile(h.witness.Path, slices.Concat(first, []byte("\n"), foreign, []byte("\n"), rest), 0o600))
	before := h.witnessedSizes()
	stored := h.storedSizes()

	h.grow(10)
	h.keeper.now = time.Now
	for range 2 {
		_, _, err = h.keeper.turn(t.Context())
		require.True(t, IsBroken(err), "%v", err)
		require.ErrorContains(t, err, "does not begin with the 102 events of a head, signed at "+begin.Add(time.Minute).UTC().Format(time.RFC3339)+", in heads.log")
	}
	require.Equal(t, before, h.witnessedSizes())
	require.Equal(t, stored, h.storedSizes())
}

// The test binary thins a file out when this says which, and in the middle it kills itself when it is to.
const asThinner, asThinnerKilled = "VOLTRUN_TEST_AS_THINNER", "VOLTRUN_TEST_AS_THINNER_KILLED"

func TestMain(m *testing.M) {
	path := os.Getenv(asThinner)
	if path == "" {
		os.Exit(m.Run())
	}
	gone := 0
	err := Witness{path}.thin(someDay.AddDate(1, 0, 0), func(witnessed) (bool, error) {
		if gone++; gone == 5000 && os.Getenv(asThinnerKilled) != "" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return true, nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func thinElsewhere(t *testing.T, path, kill string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asThinner+"="+path, asThinnerKilled+"="+kill)
	cmd.Stderr = t.Output()
	require.NoError(t, cmd.Start())
	return cmd
}

// manyHeads is a file of heads, twenty a day, with a line that cannot be read.
func manyHeads(t *testing.T) (path string, content []byte) {
	t.Helper()
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for i := range 6000 {
		at := someDay.Add(time.Duration(i) * 72 * time.Minute)
		require.NoError(t, encoder.Encode(witnessed{at, fmt.Sprintf("voltrun/test\n%d\n%0100d", i+1, i)}))
	}
	lines.WriteString("{\"signed_at\":\"2026-\n")
	require.NoError(t, encoder.Encode(witnessed{someDay.AddDate(1, 0, 0), "the newest"}))
	path = filepath.Join(t.TempDir(), "heads.log")
	require.NoError(t, os.WriteFile(path, lines.Bytes(), 0o600))
	return path, lines.Bytes()
}

// requireThinned wants the file to end as before, and to have a line a day.
func requireThinned(t *testing.T, path string, before []byte) {
	t.Helper()
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Less(t, len(after), len(before)/5)
	require.Contains(t, string(after), "{\"signed_at\":\"2026-\n")
	require.True(t, bytes.HasSuffix(after, before[bytes.LastIndexByte(before[:len(before)-1], '\n')+1:]), "the newest head stays")
	for line := range bytes.Lines(after) {
		require.True(t, bytes.Contains(before, line), "%s", line)
	}
	require.NoFileExists(t, path+draftSuffix)
}

func TestThinningThatIsKilledInTheMiddleLeavesTheFileAsItWasAndIsDoneByTheNext(t *testing.T) {
	t.Parallel()
	path, before := manyHeads(t)
	cmd := thinElsewhere(t, path, "yes")
	_ = cmd.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signal() == syscall.SIGKILL)
	draft, err := os.Stat(path + draftSuffix)
	require.NoError(t, err)
	require.Positive(t, draft.Size(), "it was killed while it wrote")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)

	require.NoError(t, thinElsewhere(t, path, "").Wait())
	requireThinned(t, path, before)
}

func TestThinningThatIsKilledAtAnyMomentLeavesTheOldFileOrTheNewOne(t *testing.T) {
	t.Parallel()
	path, before := manyHeads(t)
	for kills := 0; ; kills++ {
		cmd := thinElsewhere(t, path, "")
		time.Sleep(time.Duration(rand.IntN(100+10*kills)) * time.Millisecond) // on a slow machine it has to come to an end as well
		_ = cmd.Process.Kill()                                                // it may have ended by itself
		_ = cmd.Wait()
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		if !bytes.Equal(before, after) {
			break
		}
	}
	require.NoError(t, thinElsewhere(t, path, "").Wait())
	requireThinned(t, path, before)
}

package proof

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/voltrun/voltrun/domain"
)

func TestAHeadIsTheRootOverTheLeavesOfAllEvents(t *testing.T) {
	t.Parallel()
	h, head := signed(t)
	require.Equal(t, h.length(), head.Size)

	var hashes []tlog.Hash // all stored hashes, as the library makes them
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return stored(hashes).ReadHashes(indexes) })
	for b := range readLog(t.Context(), h.store.Pool(), head.Size) {
		require.NoError(t, b.err)
		for _, r := range b.rows {
			added, err := tlog.StoredHashes(r.position-1, r.appendLeaf(nil), read)
			require.NoError(t, err)
			hashes = append(hashes, added...)
		}
	}
	root, err := tlog.TreeHash(head.Size, read)
	require.NoError(t, err)
	require.Equal(t, root, head.Root)

	opened, err := note.Open([]byte(head.Note), h.key.verifiers)
	require.NoError(t, err)
	require.Equal(t, opened.Sigs[0].Name+"\n"+fmtInt(head.Size)+"\n"+root.String()+"\n", opened.Text)
}

func TestEventsAreSignedSoonAfterTheyWereAppendedAndNoHeadIsSignedForNothing(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.keeper.Start()
	h.keeper.Start()
	t.Cleanup(h.keeper.Stop)
	for range 3 {
		h.grow(20)
		length, began := h.length(), time.Now()
		require.Eventually(t, func() bool { return h.keeper.Status().Size == length }, 30*time.Second, 5*time.Millisecond)
		require.Less(t, time.Since(began), 3*time.Second)
	}
	var heads int
	require.NoError(t, h.store.Pool().QueryRow(t.Context(), "select count(*) from heads").Scan(&heads))
	require.LessOrEqual(t, heads, 6, "about one a second")
	h.keeper.Stop()
	h.keeper.Stop()
	require.Empty(t, problems(h.verify()))
}

func TestProcessesKeepOneProofInTurns(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	other := NewKeeper(h.store, h.key, Witness{t.TempDir() + "/heads.log"}, slog.New(slog.DiscardHandler))
	for range 5 {
		h.grow(300)
		failed := make(chan error, 2)
		for _, k := range []*Keeper{h.keeper, other} {
			go func() {
				_, _, err := k.turn(t.Context())
				failed <- err
			}()
		}
		require.NoError(t, <-failed)
		require.NoError(t, <-failed)
	}
	var covered int64
	require.NoError(t, h.store.Pool().QueryRow(t.Context(), "select max(size) from heads").Scan(&covered))
	require.Equal(t, h.length(), covered)
	h.sign()
	_, _, err := other.turn(t.Context())
	require.NoError(t, err)
	for _, witness := range []Witness{h.witness, other.witness} {
		require.Empty(t, problems(h.verify(func(v *Verification) { v.Witness = witness.Path })))
		line, found, _, err := witness.newest()
		require.NoError(t, err)
		require.True(t, found)
		seen, err := h.key.Open(line.Note)
		require.NoError(t, err)
		require.Equal(t, covered, seen.Size, "each has seen the newest head, whoever signed it")
	}
}

func TestAKeeperGoesOnWhereALossOfPowerLeftAPartOfALine(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	file, err := os.OpenFile(h.witness.Path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString(`{"signed_at":"2026-`)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	h.grow(10)
	head := h.sign()
	line, _, whole, err := h.witness.newest()
	require.NoError(t, err)
	require.True(t, whole)
	require.Equal(t, head.Note, line.Note)
	report := h.verify()
	require.Empty(t, problems(report))
	require.Contains(t, report.Remarks[0], "cannot be read")
}

func TestAHeadThatWasSignedButNotWitnessedBecauseOfACrashIsWitnessedLater(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	before, err := os.ReadFile(h.witness.Path)
	require.NoError(t, err)
	h.grow(10)
	head := h.sign()
	require.NoError(t, os.WriteFile(h.witness.Path, before, 0o600))
	require.Equal(t, head.Size, h.sign().Size)
	line, _, _, err := h.witness.newest()
	require.NoError(t, err)
	require.Equal(t, head.Note, line.Note)
}

func TestALogThatOutlivesItsKeyGoesOnWithTheOldPublicKeyBehindTheNewOne(t *testing.T) {
	t.Parallel()
	h, head := signed(t)
	fresh := GenerateKey()
	alone, err := ParseKey(fresh)
	require.NoError(t, err)
	_, _, err = NewKeeper(h.store, alone, Witness{t.TempDir() + "/heads.log"}, slog.New(slog.DiscardHandler)).turn(t.Context())
	var other *OtherKey
	require.ErrorAs(t, err, &other)
	require.ErrorContains(t, err, h.key.signer.Name())
	require.ErrorContains(t, err, alone.Public())
	require.ErrorContains(t, err, "copy the file proof_key")
	_, err = NewProver(h.store.Pool(), h.codec, nil, alone).Checkpoint(t.Context())
	requireCode(t, domain.Unavailable, err)
	require.ErrorContains(t, err, "signed by another key than this server's")

	h.key, err = ParseKey(fresh + "\n" + h.key.Public())
	require.NoError(t, err)
	h.keeper = NewKeeper(h.store, h.key, h.witness, slog.New(slog.DiscardHandler))
	h.grow(10)
	require.Greater(t, h.sign().Size, head.Size)
	require.Empty(t, problems(h.verify()))
}

func TestMuchToCatchUpOnIsSignedInSeveralHeads(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.grow(2 * leafPage)
	head := h.sign()
	require.Equal(t, h.length(), head.Size)
	require.Empty(t, problems(h.verify()))
}

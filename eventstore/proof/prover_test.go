package proof

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/voltrun/voltrun/domain"
)

func requireCode(t testing.TB, code domain.Code, err error) {
	t.Helper()
	var refusal *domain.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code, "%v", err)
}

func TestAnEventIsProvedUnderEveryHeadThatCoversItToItsOwnerOnly(t *testing.T) {
	t.Parallel()
	h, newest := signed(t)
	prover, account := h.prover(), h.someAccount(402)
	for _, size := range []int64{0, 608, 912} {
		got, err := prover.Event(t.Context(), account, 402, size)
		require.NoError(t, err)
		head, err := h.key.Open(got.Checkpoint.Note)
		require.NoError(t, err)
		if size == 0 {
			require.Equal(t, newest.Root, head.Root)
		} else {
			require.Equal(t, size, head.Size)
		}
		require.NoError(t, tlog.CheckRecord(got.Proof, head.Size, head.Root, 401, tlog.RecordHash([]byte(got.Leaf))))
		require.Equal(t, h.key.Public(), got.Checkpoint.PublicKey)
		require.NotNil(t, got.Content)
	}
	_, err := prover.Event(t.Context(), account, 402, 304)
	requireCode(t, domain.Invalid, err)
	_, err = prover.Event(t.Context(), account, 402, 700)
	requireCode(t, domain.NotFound, err)
	_, err = prover.Event(t.Context(), uuid.New(), 402, 0)
	requireCode(t, domain.NotFound, err)
	_, err = prover.Event(t.Context(), account, 100_000, 0)
	requireCode(t, domain.NotFound, err)
	h.grow(10)
	_, err = prover.Event(t.Context(), h.someAccount(915), 915, 0)
	requireCode(t, domain.Unavailable, err)
}

func TestANewerHeadIsProvedToContinueAnOlderOne(t *testing.T) {
	t.Parallel()
	h, newest := signed(t)
	for _, sizes := range [][2]int64{{304, 608}, {304, 0}, {912, 912}, {1, 912}, {300, 0}} {
		got, err := h.prover().Consistency(t.Context(), sizes[0], sizes[1])
		require.NoError(t, err)
		older, err := tlog.TreeHash(sizes[0], newStoredTree(t.Context(), h.store.Pool()))
		require.NoError(t, err)
		head, err := h.key.Open(got.Checkpoint.Note)
		require.NoError(t, err)
		require.NoError(t, tlog.CheckTree(got.Proof, head.Size, head.Root, sizes[0], older))
	}
	for _, from := range []int64{-1, 0, newest.Size + 1} {
		_, err := h.prover().Consistency(t.Context(), from, 0)
		requireCode(t, domain.Invalid, err)
	}
	_, err := h.prover().Consistency(t.Context(), 1, 10)
	requireCode(t, domain.NotFound, err)
}

func TestBeforeAnythingIsSignedNothingIsProved(t *testing.T) {
	t.Parallel()
	_, err := newHistory(t).prover().Checkpoint(t.Context())
	requireCode(t, domain.Unavailable, err)
}

func TestNoProofIsGivenOutThatDoesNotHold(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"the event was altered":       "update events set actor_id = gen_random_uuid() where position = 402",
		"the stored tree was altered": "update tiles set hashes = set_byte(hashes, 32 * 146, get_byte(hashes, 32 * 146) # 1) where level = 0 and index = 1",
		"the stored tree is gone":     "truncate tiles",
		"the head was altered":        "update heads set root = sha256(root)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _ := signed(t)
			h.tamper(statement)
			_, err := h.prover().Event(t.Context(), h.someAccount(402), 402, 0)
			requireCode(t, domain.Unavailable, err)
			require.ErrorContains(t, err, "voltrun audit verify")
		})
	}
}

func TestNoHeadOfAnotherKeyIsGivenOut(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	h.rewriteAt(402, newKey(t))
	_, err := h.prover().Checkpoint(t.Context())
	requireCode(t, domain.Unavailable, err)
	_, err = h.prover().Event(t.Context(), h.someAccount(402), 402, 0)
	requireCode(t, domain.Unavailable, err)
}

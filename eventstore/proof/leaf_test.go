package proof

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

func someRow() row {
	id := func(n byte) pgtype.UUID { return pgtype.UUID{Bytes: [16]byte{0: n, 15: n}, Valid: true} }
	return row{
		position: 7, stream: id(1), version: 2, id: id(2), kind: "execution.requested", schemaVersion: 1, account: id(3),
		actorKind: "api_key", actor: id(4), actorPrefix: pgtype.Text{String: "vr_012345678", Valid: true}, correlation: id(5),
		recordedAt: pgtype.Timestamptz{Time: time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC), Valid: true},
		headers:    []byte(`{"a":"b"}`), commitment: make([]byte, 32),
	}
}

// The form of a leaf is for ever: every signed head is made of such.
func TestALeafIsALineForEachColumn(t *testing.T) {
	t.Parallel()
	r := someRow()
	require.Equal(t, strings.Join([]string{
		"voltrun event v1", "7", "01000000-0000-0000-0000-000000000001", "2", "02000000-0000-0000-0000-000000000002",
		"execution.requested", "1", "03000000-0000-0000-0000-000000000003", "api_key", "04000000-0000-0000-0000-000000000004",
		"vr_012345678", "05000000-0000-0000-0000-000000000005", "-", "1795435200123456",
		"db4a7ecb114bc66c623a06c4ff6fe8daa2f49cc270ebbf7a1f81e22ab061c837", strings.Repeat("0", 64), "",
	}, "\n"), string(r.appendLeaf(nil)))
}

func TestNoTwoRowsHaveTheSameLeaf(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for i, change := range []func(*row){
		func(*row) {},
		func(r *row) { r.position++ },
		func(r *row) { r.version++ },
		func(r *row) { r.stream.Bytes[3]++ },
		func(r *row) { r.id.Bytes[3]++ },
		func(r *row) { r.kind = "execution.requested\n1" },
		func(r *row) { r.kind = `"execution.requested\n1"` },
		func(r *row) { r.kind = `execution.requested\n1` },
		func(r *row) { r.kind = "" },
		func(r *row) { r.kind = "é" },
		func(r *row) { r.schemaVersion++ },
		func(r *row) { r.account.Valid = false },
		func(r *row) { r.account.Bytes = [16]byte{} },
		func(r *row) { r.actorKind = "user" },
		func(r *row) { r.actor.Bytes[3]++ },
		func(r *row) { r.actorPrefix.Valid = false },
		func(r *row) { r.actorPrefix.String = "-" },
		func(r *row) { r.actorPrefix.String = `"-"` },
		func(r *row) { r.actorPrefix.String = "" },
		func(r *row) { r.correlation.Valid = false },
		func(r *row) { r.causation, r.correlation = r.correlation, r.causation },
		func(r *row) { r.recordedAt.Time = r.recordedAt.Time.Add(time.Microsecond) },
		func(r *row) { r.recordedAt.InfinityModifier = pgtype.Infinity },
		func(r *row) { r.recordedAt.InfinityModifier = pgtype.NegativeInfinity },
		func(r *row) { r.headers = nil },
		func(r *row) { r.headers = []byte{} },
		func(r *row) { r.headers = []byte(`{"a":"c"}`) },
		func(r *row) { r.commitment = append(make([]byte, 31), 1) },
		func(r *row) { r.commitment = nil },
	} {
		r := someRow()
		change(&r)
		leaf := string(r.appendLeaf(nil))
		require.NotContains(t, seen, leaf, "row %d", i)
		seen[leaf] = i
		require.Equal(t, leafLines, strings.Count(leaf, "\n"))
		require.False(t, strings.ContainsFunc(leaf, unfitForLeaf))
	}
}

func TestALeafIsReadBackStrictly(t *testing.T) {
	t.Parallel()
	r := someRow()
	good := string(r.appendLeaf(nil))
	parsed, err := parseLeaf(good)
	require.NoError(t, err)
	require.EqualValues(t, r.position, parsed.position)
	require.EqualValues(t, r.stream.Bytes, parsed.stream)
	require.EqualValues(t, r.account.Bytes, parsed.account)
	for _, bad := range []string{
		"", good + "\n", good[1:], strings.Replace(good, "\n7\n", "\nx\n", 1), strings.Replace(good, "execution", "\x1b[2J", 1),
		strings.TrimSuffix(good, "00\n") + "\n", strings.Replace(good, "v1", "v2", 1),
	} {
		_, err := parseLeaf(bad)
		require.ErrorIs(t, err, errNoLeaf, "%q", bad)
	}
}

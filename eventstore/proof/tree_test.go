package proof

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"
)

// stored is a tree as golang.org/x/mod/sumdb/tlog itself grows it.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = s[index]
	}
	return hashes, nil
}

func TestTheTreeIsTheOneOfRFC6962AtEverySize(t *testing.T) {
	t.Parallel()
	var reference stored
	var grown tree
	tiles := map[tileKey][]byte{}
	keep := func(key tileKey, hashes []byte) { tiles[key] = hashes }
	for n := range int64(2*tileWidth*tileWidth + 300) {
		leaf := tlog.RecordHash(fmt.Append(nil, n))
		hashes, err := tlog.StoredHashesForRecordHash(n, leaf, reference)
		require.NoError(t, err)
		reference = append(reference, hashes...)
		grown.add(leaf, keep)
		if n < 1000 || n%977 == 0 || n%tileWidth < 2 {
			want, err := tlog.TreeHash(n+1, reference)
			require.NoError(t, err)
			require.Equal(t, want, grown.root(), "size %d", n+1)
		}
	}
	grown.grownSince(0, keep)
	require.Equal(t, (2*tileWidth+1+1)+(2+1)+1, len(tiles), "full and unfinished tiles of three levels")
	for key, hashes := range tiles {
		want, err := tlog.ReadTileData(key.tile(hashes), reference)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, hashes), "%v", key)
	}
	keys, widths := edgeKeys(grown.size)
	for i, key := range keys {
		require.Equal(t, widths[i]*tlog.HashSize, len(tiles[key]))
	}
}

func TestAnEmptyTreeHasTheRootThatRFC6962Gives(t *testing.T) {
	t.Parallel()
	require.Equal(t, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", new(tree).root().String())
}

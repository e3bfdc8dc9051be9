package proof

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// tileHeight is how many levels of the tree a tile spans, tileWidth how many hashes a full one has.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	tileBytes  = tileWidth * tlog.HashSize
)

// tileKey says which tile of the tree it is.
type tileKey struct {
	level int
	index int64
}

func (k tileKey) tile(hashes []byte) tlog.Tile {
	return tlog.Tile{H: tileHeight, L: k.level, N: k.index, W: len(hashes) / tlog.HashSize}
}

// tree is a Merkle tree that only grows. It keeps nothing but its right edge, the last and unfinished tile of each level:
// that is enough to add leaves and to know the root.
type tree struct {
	size int64
	edge [][]byte // by level, from the leaves up; fewer than tileWidth hashes each
}

// add adds a leaf and hands over the tiles that it fills. Their bytes are the caller's.
func (t *tree) add(leaf tlog.Hash, full func(key tileKey, hashes []byte)) {
	hash := leaf
	for level := 0; ; level++ {
		if level == len(t.edge) {
			t.edge = append(t.edge, nil)
		}
		t.edge[level] = append(t.edge[level], hash[:]...)
		if len(t.edge[level]) < tileBytes {
			break
		}
		full(tileKey{level, t.size >> (tileHeight * (level + 1))}, t.edge[level])
		hash = subtreeHash(t.edge[level])
		t.edge[level] = make([]byte, 0, tileBytes)
	}
	t.size++
}

// grownSince hands over the unfinished tiles that are others than when the tree had the size before.
func (t *tree) grownSince(before int64, changed func(key tileKey, hashes []byte)) {
	for level, hashes := range t.edge {
		shift := tileHeight * level
		if len(hashes) > 0 && before>>shift != t.size>>shift {
			changed(tileKey{level, t.size >> (shift + tileHeight)}, hashes)
		}
	}
}

// edgeKeys are the unfinished tiles of a tree of that size, and how many hashes of each belong to it.
func edgeKeys(size int64) (keys []tileKey, widths []int) {
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		keys = append(keys, tileKey{level, size >> (tileHeight * (level + 1))})
		widths = append(widths, int(size>>(tileHeight*level)%tileWidth))
	}
	return keys, widths
}

func (t *tree) root() tlog.Hash {
	root, err := tlog.TreeHash(t.size, tlog.HashReaderFunc(t.readEdge))
	if err != nil {
		panic(err) // the root is made of hashes of the edge
	}
	return root
}

func (t *tree) readEdge(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		want := tlog.TileForIndex(tileHeight, index)
		if want.L >= len(t.edge) {
			return nil, fmt.Errorf("the edge of the tree has no level %d", want.L)
		}
		edge := t.edge[want.L]
		var err error
		if hashes[i], err = tlog.HashFromTile(tileKey{want.L, want.N}.tile(edge), edge, index); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// subtreeHash is the root over a power of two of hashes.
func subtreeHash(hashes []byte) tlog.Hash {
	if len(hashes) == tlog.HashSize {
		return tlog.Hash(hashes)
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtreeHash(hashes[:half]), subtreeHash(hashes[half:]))
}

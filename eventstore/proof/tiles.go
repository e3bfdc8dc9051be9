package proof

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

// readTiles reads tiles from the database. One that is not there is not in the answer either.
func readTiles(ctx context.Context, db querier, keys []tileKey) (map[tileKey][]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	levels, indexes := make([]int16, len(keys)), make([]int64, len(keys))
	for i, key := range keys {
		levels[i], indexes[i] = int16(key.level), key.index
	}
	rows, err := db.Query(ctx, `select level, index, hashes
		from unnest($1::smallint[], $2::bigint[]) as wanted (level, index) join tiles using (level, index)`, levels, indexes)
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	tiles := make(map[tileKey][]byte, len(keys))
	var key tileKey
	var hashes []byte
	_, err = pgx.ForEachRow(rows, []any{&key.level, &key.index, &hashes}, func() error {
		tiles[key] = hashes
		hashes = nil // the next row gets memory of its own
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	return tiles, nil
}

// writeTiles stores tiles, new ones and those that have grown.
func writeTiles(ctx context.Context, tx pgx.Tx, tiles map[tileKey][]byte) error {
	var levels []int16
	var indexes []int64
	var hashes [][]byte
	for key, tile := range tiles {
		levels, indexes, hashes = append(levels, int16(key.level)), append(indexes, key.index), append(hashes, tile)
	}
	_, err := tx.Exec(ctx, `insert into tiles (level, index, hashes)
		select * from unnest($1::smallint[], $2::bigint[], $3::bytea[])
		on conflict (level, index) do update set hashes = excluded.hashes`, levels, indexes, hashes)
	if err != nil {
		return fmt.Errorf("store the tree: %w", err)
	}
	return nil
}

// span is which events stand under a full tile, from and upto included.
func (k tileKey) span() (from, upto int64) {
	width := int64(1) << (tileHeight * (k.level + 1))
	return k.index*width + 1, (k.index + 1) * width
}

// damaged says that a tile is not there, or too short.
func damaged(key tileKey) error {
	from, upto := key.span()
	return &Broken{fmt.Sprintf("the stored tree over the events %d to %d (level %d) is damaged", from, upto, key.level)}
}

// loadTree reads the edge of the tree when it had that size.
func loadTree(ctx context.Context, db querier, size int64) (*tree, error) {
	keys, widths := edgeKeys(size)
	tiles, err := readTiles(ctx, db, keys)
	if err != nil {
		return nil, err
	}
	t := &tree{size: size, edge: make([][]byte, len(keys))}
	for level, key := range keys {
		width := widths[level] * tlog.HashSize
		if len(tiles[key]) < width {
			return nil, damaged(key)
		}
		t.edge[level] = tiles[key][:width:width]
	}
	return t, nil
}

// rememberedTiles is how many tiles, of 8 KB each, a storedTree keeps in memory.
const rememberedTiles = 512

// storedTree is the tree as the database has it, for the time of one request. It is a tlog.HashReader.
type storedTree struct {
	ctx   context.Context
	db    querier
	known *lru.Cache[tileKey, []byte]
}

func newStoredTree(ctx context.Context, db querier) *storedTree {
	known, err := lru.New[tileKey, []byte](rememberedTiles)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &storedTree{ctx: ctx, db: db, known: known}
}

// ReadHashes implements tlog.HashReader. The error is a *Broken when the database does not have these hashes.
func (s *storedTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	tiles, err := s.tilesOf(indexes)
	if err != nil {
		return nil, err
	}
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		key := keyOf(index)
		if hashes[i], err = tlog.HashFromTile(key.tile(tiles[key]), tiles[key], index); err != nil {
			return nil, damaged(key)
		}
	}
	return hashes, nil
}

func keyOf(index int64) tileKey {
	tile := tlog.TileForIndex(tileHeight, index)
	return tileKey{tile.L, tile.N}
}

func (s *storedTree) tilesOf(indexes []int64) (map[tileKey][]byte, error) {
	tiles := map[tileKey][]byte{}
	var missing []tileKey
	for _, index := range indexes {
		key := keyOf(index)
		if _, ok := tiles[key]; ok {
			continue
		}
		hashes, ok := s.known.Get(key)
		if tiles[key] = hashes; !ok {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return tiles, nil
	}
	read, err := readTiles(s.ctx, s.db, missing)
	for key, hashes := range read {
		tiles[key] = hashes
		s.known.Add(key, hashes)
	}
	return tiles, err
}

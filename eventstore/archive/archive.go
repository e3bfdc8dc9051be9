// Package archive keeps what old events say outside the database: the payloads of kinds that no decision depends on, in
// compressed files with their hashes in the log. The events themselves stay in the log with everything else, so history
// can be proved with the archive or without.
//
// A file holds the payloads of one partition of the log as they stood there, sealed for their accounts: gzip over lines of
// JSON, so that any tool reads it.
package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/voltrun/voltrun/eventstore"
)

// lookAgain is how long the list of the files is taken for complete: a page with many payloads that are in no file asks
// for it once.
const lookAgain = time.Second

// rememberedBlocks is how many decompressed blocks an archive keeps, of a megabyte each at most.
const rememberedBlocks = 32

// Archive reads archived payloads. It is safe for concurrent use, and Close gives its files back.
type Archive struct {
	pool   *pgxpool.Pool
	dir    string
	blocks *lru.Cache[blockKey, map[eventstore.Position][]byte]

	mu     sync.Mutex
	known  []recorded // the files that were recorded
	looked time.Time  // when that was read
	open   map[string]*opened
}

type blockKey struct {
	file string
	at   int64
}

// recorded is a file that is recorded in the log.
type recorded struct {
	Name   string
	From   eventstore.Position
	To     eventstore.Position
	SHA256 string
}

// opened is a file whose hash was found right.
type opened struct {
	file   *os.File
	blocks []block
}

// Open makes an archive of the log in this database, with the files in the folder dir. They are looked at when they are
// needed; those that are not there are as if they were not.
func Open(pool *pgxpool.Pool, dir string) *Archive {
	blocks, err := lru.New[blockKey, map[eventstore.Position][]byte](rememberedBlocks)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &Archive{pool: pool, dir: dir, blocks: blocks, open: map[string]*opened{}}
}

// Close closes the files. It may be called twice.
func (a *Archive) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for name, o := range a.open {
		errs = append(errs, o.file.Close())
		delete(a.open, name)
	}
	return errors.Join(errs...)
}

// Payload returns the payload of the event at a position as it stood in the log, or nil when it is in no file that is
// there. It fails for a file that is not the one that was recorded. The caller compares what the payload says with the
// event's commitment, and must not change the bytes.
func (a *Archive) Payload(ctx context.Context, position eventstore.Position) ([]byte, error) {
	payload, found, err := a.search(position)
	if found || err != nil {
		return payload, err
	}
	if news, err := a.look(ctx); err != nil || !news {
		return nil, err
	}
	payload, _, err = a.search(position)
	return payload, err
}

// look takes note of the files that are recorded now, unless that was just done.
func (a *Archive) look(ctx context.Context) (news bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.looked) < lookAgain {
		return false, nil
	}
	rows, err := a.pool.Query(ctx, "select file, from_position, to_position, fact->>'sha256' from archives where fact is not null order by file")
	if err != nil {
		return false, fmt.Errorf("list the files of the archive: %w", err)
	}
	known, err := pgx.CollectRows(rows, pgx.RowToStructByPos[recorded])
	if err != nil {
		return false, fmt.Errorf("list the files of the archive: %w", err)
	}
	a.known, a.looked = known, time.Now()
	return true, nil
}

// search looks for a position in the files that are known.
func (a *Archive) search(position eventstore.Position) (payload []byte, found bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.known {
		if position < r.From || position > r.To {
			continue
		}
		payloads, err := a.around(r, position)
		if err != nil {
			err = fmt.Errorf("%w: %w", eventstore.ErrDamaged, err)
			return nil, false, fmt.Errorf("read event %d from the archive file %s: %w", position, r.Name, err)
		}
		if payload, found = payloads[position]; found {
			return payload, true, nil
		}
	}
	return nil, false, nil
}

// around returns the payloads of the block of a file in which a position would be.
func (a *Archive) around(r recorded, position eventstore.Position) (map[eventstore.Position][]byte, error) {
	o, err := a.opened(r)
	if err != nil || o == nil {
		return nil, err
	}
	i := sort.Search(len(o.blocks), func(i int) bool { return o.blocks[i].last >= position })
	if i == len(o.blocks) || o.blocks[i].first > position {
		return nil, nil
	}
	key := blockKey{r.Name, o.blocks[i].at}
	if payloads, ok := a.blocks.Get(key); ok {
		return payloads, nil
	}
	payloads, err := o.blocks[i].read(o.file)
	if err == nil {
		a.blocks.Add(key, payloads)
	}
	return payloads, err
}

// opened opens a file once and checks its hash, or returns nil for a file that is not there.
func (a *Archive) opened(r recorded) (*opened, error) {
	if o := a.open[r.Name]; o != nil {
		return o, nil
	}
	file, err := os.Open(filepath.Join(a.dir, r.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	blocks, err := check(file, r)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a.open[r.Name] = &opened{file, blocks}
	return a.open[r.Name], nil
}

func check(file *os.File, r recorded) ([]block, error) {
	sum := sha256.New()
	size, err := io.Copy(sum, bufio.NewReaderSize(file, blockBytes))
	if err != nil {
		return nil, err
	}
	if hex.EncodeToString(sum.Sum(nil)) != r.SHA256 {
		return nil, alteredError(r.Name)
	}
	return readBlocks(file, size)
}

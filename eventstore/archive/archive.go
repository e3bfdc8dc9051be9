// Package archive keeps what old events say outside the database: the payloads of kinds that no decision depends on, in
// compressed files with their hashes in the log. The events themselves stay in the log with everything else, so history
// can be proved with the archive or without.
//
// A file holds the payloads of one partition of the log as they stood there, sealed for their accounts: gzip over lines of
// JSON, so that any tool reads it.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"github.com/voltrun/voltrun/eventstore"
)

// lookAgain is how long the list of the files is taken for complete: a page with many payloads that are in no file asks
// for it once.
const lookAgain = time.Second

// rememberedBlocks is how many decompressed blocks an archive keeps, of a megabyte each at most.
const rememberedBlocks = 32

// openFiles is how many files an archive keeps open. One that comes back has to be hashed again.
const openFiles = 64

// Archive reads archived payloads. It is safe for concurrent use, whose readers keep each other waiting only for the same file
// to be hashed and for the same block to be decompressed. Close gives its files back.
type Archive struct {
	pool   *pgxpool.Pool
	dir    string
	blocks *lru.Cache[blockKey, map[eventstore.Position][]byte]
	shared singleflight.Group // what several readers want at once, by the name of a file or by a blockKey

	looking sync.Mutex // held by the one that asks for the list of the files
	looked  time.Time

	mu    sync.Mutex // of what follows; never held while something is read
	known []recorded // the files that were recorded
	open  *simplelru.LRU[string, *opened]
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

func (k blockKey) String() string { return fmt.Sprintf("%s at %d", k.file, k.at) }

// Open makes an archive of the log in this database, with the files in the folder dir. They are looked at when they are
// needed; those that are not there are as if they were not.
func Open(pool *pgxpool.Pool, dir string) *Archive { return open(pool, dir, openFiles) }

func open(pool *pgxpool.Pool, dir string, files int) *Archive {
	a := &Archive{pool: pool, dir: dir}
	var blocksErr, openErr error // only for a size below one
	a.blocks, blocksErr = lru.New[blockKey, map[eventstore.Position][]byte](rememberedBlocks)
	a.open, openErr = simplelru.NewLRU(files, func(_ string, o *opened) { _ = o.leave() }) // nothing was written to it
	if err := errors.Join(blocksErr, openErr); err != nil {
		panic(err)
	}
	return a
}

// Close closes the files, those that are being read as soon as they were. It may be called twice.
func (a *Archive) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open.Purge()
	return nil
}

// Payload returns the payload of the event at a position as it stood in the log, or nil when it is in no file that is
// there. It fails for a file that is not the one that was recorded. The caller compares what the payload says with the
// event's commitment, and must not change the bytes.
func (a *Archive) Payload(ctx context.Context, position eventstore.Position) ([]byte, error) {
	began := time.Now()
	payload, found, err := a.search(position)
	if found || err != nil {
		return payload, err
	}
	if news, err := a.look(ctx, began); err != nil || !news {
		return nil, err
	}
	payload, _, err = a.search(position)
	return payload, err
}

// look takes note of the files that are recorded now, unless that was just done. It tells whether they are newer than a search
// that began then.
func (a *Archive) look(ctx context.Context, began time.Time) (news bool, err error) {
	a.looking.Lock()
	defer a.looking.Unlock()
	if time.Since(a.looked) < lookAgain {
		return a.looked.After(began), nil
	}
	looked := time.Now()
	rows, err := a.pool.Query(ctx, "select file, from_position, to_position, fact->>'sha256' from archives where fact is not null order by file")
	if err != nil {
		return false, fmt.Errorf("list the files of the archive: %w", err)
	}
	known, err := pgx.CollectRows(rows, pgx.RowToStructByPos[recorded])
	if err != nil {
		return false, fmt.Errorf("list the files of the archive: %w", err)
	}
	a.looked = looked
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known = known
	return true, nil
}

// search looks for a position in the files that are known.
func (a *Archive) search(position eventstore.Position) (payload []byte, found bool, err error) {
	a.mu.Lock()
	known := a.known // replaced and never changed
	a.mu.Unlock()
	for _, r := range known {
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
	o, err := a.use(r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer a.leave(o)
	i := sort.Search(len(o.blocks), func(i int) bool { return o.blocks[i].last >= position })
	if i == len(o.blocks) || o.blocks[i].first > position {
		return nil, nil
	}
	key := blockKey{r.Name, o.blocks[i].at}
	if payloads, ok := a.blocks.Get(key); ok {
		return payloads, nil
	}
	payloads, err, _ := a.shared.Do(key.String(), func() (any, error) {
		payloads, err := o.blocks[i].read(o.file)
		if err == nil {
			a.blocks.Add(key, payloads)
		}
		return payloads, err
	})
	return payloads.(map[eventstore.Position][]byte), err
}

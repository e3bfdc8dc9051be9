package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Verification is what a whole log is checked with.
type Verification struct {
	Codec    *eventstore.Codec       // opens payloads
	Archive  eventstore.Archive      // has those that were archived; nil when it is not at hand
	Keys     PublicKeys              // whose heads count
	Moved    Moved                   // what may be missing in the log; nil when that is not known
	Witness  string                  // the file of the heads that the server signed; empty when it is not at hand
	Kept     string                  // a file of heads that an auditor has kept; empty for none
	Progress func(checked, of int64) // called now and then; may be nil
}

// Verify checks a whole log: every event against the stored tree, the tree of the events against every signed head, every
// payload that can be opened against its commitment, the table of streams against the events. What is wrong is in the report; the error is for a check that could
// not be carried out. A server may go on appending meanwhile.
func Verify(ctx context.Context, db *pgxpool.Pool, v Verification) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &checker{db: db, payloads: payloads{v.Codec, v.Archive}, moved: v.Moved, report: &Report{Locked: map[eventstore.MasterKeyID]int64{}},
		locked: map[uuid.UUID]eventstore.MasterKeyID{}, unkeyed: map[uuid.UUID]int64{}, erased: map[uuid.UUID]bool{}}
	if err := c.collectHeads(ctx, v); err != nil { // first, so that the log has what they cover
		return nil, err
	}
	length, err := c.length(ctx)
	if err != nil {
		return nil, err
	}
	for b := range readLog(ctx, db, length) {
		if b.err != nil {
			return nil, b.err
		}
		if err := c.checkBatch(ctx, b); err != nil {
			return nil, err
		}
		if v.Progress != nil {
			v.Progress(b.upto, length)
		}
	}
	if err := ctx.Err(); err != nil { // the batches have ended early
		return nil, err
	}
	if err := c.checkCounts(ctx); err != nil {
		return nil, err
	}
	c.conclude(length)
	return c.report, nil
}

// checker is a verification on its way through the log.
type checker struct {
	db       *pgxpool.Pool
	payloads payloads
	moved    Moved
	report   *Report

	sources []*source
	claims  []*claim // of all sources, by size
	judged  int      // how many of them the tree has reached
	covered int64    // how many events the stored tree has

	tree    tree               // of the events as they stand in the log
	leaves  map[tileKey][]byte // the stored hashes of the events in this batch
	full    []builtTile        // what the batch has completed above the leaves
	strange []strange
	last    pgtype.Timestamptz                   // when the event in front was recorded
	locked  map[uuid.UUID]eventstore.MasterKeyID // the accounts whose data key needs a master key that was not given
	unkeyed map[uuid.UUID]int64                  // the first payload of each account whose key is gone
	erased  map[uuid.UUID]bool                   // the accounts that the log says were erased
	buffer  []byte
}

// builtTile is a tile that was made of the events themselves.
type builtTile struct {
	key    tileKey
	hashes []byte
}

// strange is an event whose leaf is not the stored one.
type strange struct {
	position int64
	about    string
}

// length returns how many events the log has: as it says itself, or as its rows say when they are more.
func (c *checker) length(ctx context.Context) (int64, error) {
	var said, found int64
	err := c.db.QueryRow(ctx, "select position, coalesce((select max(position) from events), 0) from head").Scan(&said, &found)
	if err != nil {
		return 0, fmt.Errorf("read the head of the log: %w", err)
	}
	if said < found {
		c.report.add(said+1, "The log says that it ends at position %d, but it has events up to %d.", said, found)
	}
	return max(said, found), nil
}

// checkBatch checks events that stand one behind the other.
func (c *checker) checkBatch(ctx context.Context, b batch) error {
	if err := c.loadLeaves(ctx, b); err != nil {
		return err
	}
	for i := range b.rows {
		c.skipTo(b.rows[i].position)
		if err := c.checkEvent(ctx, &b.rows[i]); err != nil {
			return err
		}
	}
	c.skipTo(b.upto + 1)
	return errors.Join(c.checkTiles(ctx), c.checkVersions(ctx, b))
}

// skipTo reports the positions before this one that have no event. The tree gets the hashes that it had there, so that
// what comes behind can be checked all the same.
func (c *checker) skipTo(position int64) {
	from := c.tree.size + 1
	switch {
	case from >= position:
		return
	case from == position-1:
		c.report.add(from, "The event at position %d is missing.", from)
	default:
		c.report.add(from, "The events at the positions %d to %d are missing.", from, position-1)
	}
	for ; from < position; from++ {
		hash, _ := c.storedLeaf(from)
		c.grow(hash)
	}
}

func (c *checker) checkEvent(ctx context.Context, r *row) error {
	var leaf tlog.Hash
	leaf, c.buffer = r.hash(c.buffer)
	if stored, ok := c.storedLeaf(r.position); ok && stored != leaf {
		c.strange = append(c.strange, strange{r.position, r.about()})
	}
	if r.recordedAt.Time.Before(c.last.Time) {
		c.report.add(r.position, "The event at position %d (%s) was recorded before the one in front of it.", r.position, r.about())
	}
	c.last = r.recordedAt
	c.grow(leaf)
	if r.kind == accountErased {
		c.erased[r.stream.Bytes] = true
	}
	return c.checkPayload(ctx, r)
}

// about tells an event from others.
func (r *row) about() string {
	return fmt.Sprintf("%s, version %d of stream %s", r.kind, r.version, r.stream)
}

// grow adds a leaf to the tree, and judges the heads of its new size.
func (c *checker) grow(leaf tlog.Hash) {
	collect := func(key tileKey, hashes []byte) {
		if key.level > 0 { // those of the leaves are compared leaf by leaf
			c.full = append(c.full, builtTile{key, hashes})
		}
	}
	if c.tree.size < c.covered {
		c.tree.add(leaf, collect)
	} else {
		c.tree.add(leaf, func(tileKey, []byte) {})
	}
	if c.tree.size == c.covered {
		c.tree.grownSince(0, collect)
	}
	c.judge()
}

// checkTiles compares what was built of the events with the stored tree.
func (c *checker) checkTiles(ctx context.Context) error {
	keys := make([]tileKey, len(c.full))
	for i, built := range c.full {
		keys[i] = built.key
	}
	stored, err := readTiles(ctx, c.db, keys)
	if err != nil {
		return err
	}
	for _, built := range c.full {
		if !bytes.HasPrefix(stored[built.key], built.hashes) {
			from, upto := built.key.span()
			c.report.add(from, "The stored tree over the events %d to %d (level %d) is not the tree of these events.", from, upto, built.key.level)
		}
	}
	c.full = c.full[:0]
	return nil
}

// loadLeaves reads what the stored tree has for these events.
func (c *checker) loadLeaves(ctx context.Context, b batch) (err error) {
	var keys []tileKey
	for index := (b.from - 1) / tileWidth; index*tileWidth < min(b.upto, c.covered); index++ {
		keys = append(keys, tileKey{0, index})
	}
	c.leaves, err = readTiles(ctx, c.db, keys)
	return err
}

// storedLeaf is the hash that the stored tree has at a position, if it should have one.
func (c *checker) storedLeaf(position int64) (hash tlog.Hash, ok bool) {
	if position > c.covered {
		return hash, false
	}
	tile := c.leaves[tileKey{0, (position - 1) / tileWidth}]
	at := (position - 1) % tileWidth * tlog.HashSize
	if int64(len(tile)) >= at+tlog.HashSize {
		copy(hash[:], tile[at:])
	}
	return hash, true // a hash that is missing is as good as a wrong one
}

// accountErased is the type of the event that says why an account's key is gone.
var accountErased = domain.AccountErased{}.EventType()

// conclude says what only the whole shows.
func (c *checker) conclude(length int64) {
	c.report.Events = length
	c.concludeHeads(length)
	for account, position := range c.unkeyed {
		if !c.erased[account] {
			c.report.add(position, "The payloads of account %s, from position %d on, cannot be read: its key is gone, and the log does not say that it was erased.",
				account, position)
		}
	}
	for _, s := range c.strange {
		if s.position <= c.report.Signed.Size {
			c.report.add(s.position, "The stored tree has another hash than the event at position %d (%s), which is the one that was signed.", s.position, s.about)
		} else {
			c.report.add(s.position, "The event at position %d (%s) is not the one that was recorded.", s.position, s.about)
		}
	}
	c.report.sort()
}

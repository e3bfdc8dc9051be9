package proof

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// keeperLock is the advisory lock that orders the turns of all keepers on one database ("voltrunP").
	keeperLock = 0x766f6c7472756e50

	// turnTime bounds how long a turn reads before it signs, when there is much to catch up on.
	turnTime = 700 * time.Millisecond

	// leafPage is how many events a turn reads at once, without their payloads.
	leafPage = 5000
)

// turn extends the tree by what was appended, and signs its head. It returns the newest head, which is another process's
// when there was nothing left to do, and whether there is more to read. The error is a *Broken when history is not what
// was signed.
func (k *Keeper) turn(ctx context.Context) (newest Head, more bool, err error) {
	var signed Head
	err = pgx.BeginFunc(ctx, k.log.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(keeperLock)); err != nil {
			return fmt.Errorf("take the turn to sign: %w", err)
		}
		var t *tree
		var length int64
		var err error
		if newest, t, length, err = k.trusted(ctx, tx); err != nil {
			return err
		}
		if err := k.thinNowAndThen(ctx, tx); err != nil {
			return err
		}
		if more = t.size < length; !more {
			return nil
		}
		signed, more, err = k.grow(ctx, tx, t, length)
		return err
	})
	if err != nil || signed.Size == 0 {
		return newest, more, err
	}
	return signed, more, k.testify(signed)
}

// grow adds the events up to length to the tree, or as many as there is time for, and signs and stores it.
func (k *Keeper) grow(ctx context.Context, tx pgx.Tx, t *tree, length int64) (signed Head, more bool, err error) {
	before := t.size
	tiles := map[tileKey][]byte{}
	keep := func(key tileKey, hashes []byte) { tiles[key] = hashes }
	for until := time.Now().Add(turnTime); t.size < length && time.Now().Before(until); {
		if err := addPage(ctx, tx, t, min(t.size+leafPage, length), keep); err != nil {
			return Head{}, false, err
		}
	}
	t.grownSince(before, keep)
	if signed, err = k.key.sign(t, k.now()); err != nil {
		return Head{}, false, err
	}
	if err := writeTiles(ctx, tx, tiles); err != nil {
		return Head{}, false, err
	}
	return signed, t.size < length, writeHead(ctx, tx, signed)
}

// addPage adds the events behind the tree's last one, up to and including upto.
func addPage(ctx context.Context, tx pgx.Tx, t *tree, upto int64, full func(tileKey, []byte)) error {
	rows, err := tx.Query(ctx, "select "+leafColumns+" from events where position > $1 and position <= $2 order by position", t.size, upto)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	var buffer []byte
	for scanner := newRowScanner(); rows.Next(); {
		r, err := scanner.scan(rows)
		if err != nil {
			return err
		}
		if r.position != t.size+1 {
			break
		}
		var leaf tlog.Hash
		leaf, buffer = r.hash(buffer)
		t.add(leaf, full)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if t.size < upto {
		return &Broken{fmt.Sprintf("the log has no event at position %d", t.size+1)}
	}
	return nil
}

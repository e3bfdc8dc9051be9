package proof

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

// A busy log gets a head a second, and each says the same of the events that it covers as every newer one. What an old head
// is good for, beside that somebody may have kept it, is to tell when something was altered. So heads are thinned out as
// they grow old: of those of one interval, the newest stays. The intervals are multiples of each other, which makes it the
// same whether they were thinned step by step or at once.
var thinning = []struct{ olderThan, interval time.Duration }{
	{60 * 24 * time.Hour, 24 * time.Hour},
	{2 * 24 * time.Hour, time.Hour},
	{3 * time.Hour, time.Minute},
}

const (
	// thinInterval is how often a keeper thins heads out.
	thinInterval = time.Hour

	// thinAtOnce bounds how many heads leave the database in a turn. The next turn goes on.
	thinAtOnce = 50_000

	// draftSuffix is behind the name of the file of heads while it is written anew.
	draftSuffix = ".draft"
)

// thinsOut tells whether a head that was signed at one time goes because of the next newer one. The newest has none.
func thinsOut(signed, next, now time.Time) bool {
	for _, step := range thinning {
		if now.Sub(signed) > step.olderThan {
			return !signed.IsZero() && signed.Truncate(step.interval).Equal(next.Truncate(step.interval))
		}
	}
	return false
}

// thinNowAndThen thins the heads out, in the database and in the file, when it is time to. Nothing leaves the file that does
// not fit the stored tree: it shows that something is wrong, and the error is a *Broken then.
func (k *Keeper) thinNowAndThen(ctx context.Context, tx pgx.Tx) error {
	now := k.now()
	if now.Sub(k.thinned) < thinInterval {
		return nil
	}
	if err := k.witness.thin(now, k.fits(newStoredTree(ctx, tx))); IsBroken(err) {
		return err
	} else if err != nil {
		return fmt.Errorf("thin out %s: %w", filepath.Base(k.witness.Path), err)
	}
	more, err := thinStored(ctx, tx, now)
	if err == nil && !more {
		k.thinned = now
	}
	return err
}

// fits tells of heads whether the stored tree has their roots. It is false for one that says nothing, because it is signed
// by nobody who is known.
func (k *Keeper) fits(stored tlog.HashReader) func(line witnessed) (bool, error) {
	return func(line witnessed) (bool, error) {
		head, err := k.key.Open(line.Note)
		if err != nil {
			return false, nil //nolint:nilerr // it stays where it is, and an audit tells of it
		}
		root, err := tlog.TreeHash(head.Size, stored)
		if err == nil && root != head.Root {
			err = &Broken{fmt.Sprintf("the history in the database does not begin with the %d events of a head%s in heads.log",
				head.Size, when(line.SignedAt))}
		}
		return err == nil, err
	}
}

// thinStored thins out the heads of the database, or as many as go at once.
func thinStored(ctx context.Context, tx pgx.Tx, now time.Time) (more bool, err error) {
	rows, err := tx.Query(ctx, `select size, signed_at, next
		from (select size, signed_at, lead(signed_at) over (order by size) as next from heads) h
		where next is not null and signed_at < $1`, now.Add(-thinning[len(thinning)-1].olderThan))
	if err != nil {
		return false, fmt.Errorf("read the heads: %w", err)
	}
	var size int64
	var signed, next time.Time
	var gone []int64
	_, err = pgx.ForEachRow(rows, []any{&size, &signed, &next}, func() error {
		if len(gone) < thinAtOnce && thinsOut(signed, next, now) {
			gone = append(gone, size)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read the heads: %w", err)
	}
	if _, err := tx.Exec(ctx, "delete from heads where size = any($1)", gone); err != nil {
		return false, fmt.Errorf("thin out the heads: %w", err)
	}
	return len(gone) == thinAtOnce, nil
}

// thin writes the file anew without the heads that are old, not needed and good. It may be killed at any moment: the file is
// the old one or the new one. What cannot be read stays.
func (w Witness) thin(now time.Time, good func(witnessed) (bool, error)) error {
	return w.alone(func(folder *os.File) error {
		from, err := os.Open(w.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer from.Close()
		draft, err := os.OpenFile(w.Path+draftSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		t := thinner{now: now, good: good, out: bufio.NewWriter(draft)}
		err = eachLine(bufio.NewReaderSize(from, longestHead), t.add)
		if err := errors.Join(err, t.end(), draft.Sync(), draft.Close()); err != nil || t.gone == 0 {
			return errors.Join(err, os.Remove(draft.Name()))
		}
		return errors.Join(os.Rename(draft.Name(), w.Path), folder.Sync())
	})
}

// thinner copies lines but for those that thin out. It holds each one back until it has seen the next.
type thinner struct {
	now  time.Time
	good func(witnessed) (bool, error)
	out  *bufio.Writer
	gone int
	line witnessed
	text []byte
}

func (t *thinner) add(text []byte) error {
	line, ok := parseWitnessed(text)
	if !ok {
		_, err := t.out.Write(text)
		return err
	}
	goes := len(t.text) > 0 && thinsOut(t.line.SignedAt, line.SignedAt, t.now)
	if goes {
		var err error
		if goes, err = t.good(t.line); err != nil {
			return err
		}
	}
	if goes {
		t.gone++
	} else if _, err := t.out.Write(t.text); err != nil {
		return err
	}
	t.line, t.text = line, append(t.text[:0], text...)
	return nil
}

// end writes the newest line, which always stays.
func (t *thinner) end() error {
	_, err := t.out.Write(t.text)
	return errors.Join(err, t.out.Flush())
}

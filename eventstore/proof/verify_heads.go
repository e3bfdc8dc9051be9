package proof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
)

// source is where heads come from, and how those fit the log.
type source struct {
	name  string // "in the database", "in heads.log"
	heads int

	good     Head   // the newest head before the first that does not fit
	bad      *claim // the first that does not fit
	alsoBad  int    // how many do not fit behind it
	missing  *claim // the first that the database does not have
	alsoGone int    // how many it does not have beside that
	thinned  int    // how many it does not have because old heads are thinned out there
}

// claim is a head, and what its source says by it: that these are the first events of the log.
type claim struct {
	Head
	source *source
}

// collectHeads reads the heads of all sources. Those in files come first: the server shows no head to its witness before it
// stands in the database.
func (c *checker) collectHeads(ctx context.Context, v Verification) error {
	if err := c.collectWitnessed(v); err != nil {
		return err
	}
	if v.Kept != "" {
		if err := c.collectFile(v.Keys, v.Kept, c.newSource("that was kept")); err != nil {
			return fmt.Errorf("the heads to check against: %w", err)
		}
	}
	files := len(c.claims)
	if err := c.collectStored(ctx, v.Keys); err != nil {
		return err
	}
	c.findMissing(c.claims[:files], c.claims[files:])
	slices.SortStableFunc(c.claims, func(a, b *claim) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}

func (c *checker) newSource(name string) *source {
	s := &source{name: name}
	c.sources = append(c.sources, s)
	return s
}

func (c *checker) collectWitnessed(v Verification) error {
	err := fs.ErrNotExist
	if v.Witness != "" {
		err = c.collectFile(v.Keys, v.Witness, c.newSource("in heads.log"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		c.report.remark("There is no heads.log of the server at hand. Whoever owns the database and the signing key could have signed another past.")
		return nil
	}
	return err
}

// collectFile reads the heads of a file.
func (c *checker) collectFile(keys PublicKeys, path string, from *source) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	n := 0
	unreadable, err := readHeads(file, func(line witnessed) {
		n++
		head, err := keys.Open(line.Note)
		if err != nil {
			c.report.add(0, "Head number %d %s %v.", n, from.name, err)
			return
		}
		head.SignedAt = line.SignedAt
		c.claim(head, from)
	})
	if err != nil {
		return err
	}
	if unreadable > 0 && n == 0 {
		return fmt.Errorf("%s holds no signed head", path)
	}
	if unreadable > 0 {
		c.report.remark("%s has %d lines that cannot be read. A loss of power can leave such a line.", path, unreadable)
	}
	return nil
}

// claim remembers a head, without its note: there may be many.
func (c *checker) claim(head Head, from *source) {
	head.Note = ""
	from.heads++
	c.claims = append(c.claims, &claim{head, from})
}

// collectStored reads the heads of the database. The largest of them says how large the stored tree is.
func (c *checker) collectStored(ctx context.Context, keys PublicKeys) error {
	from := c.newSource("in the database")
	rows, err := c.db.Query(ctx, "select "+headColumns+" from heads order by size")
	if err != nil {
		return fmt.Errorf("read the heads: %w", err)
	}
	var s storedHead
	_, err = pgx.ForEachRow(rows, []any{&s.Size, &s.Root, &s.Note, &s.SignedAt}, func() error {
		c.covered = max(c.covered, s.Size)
		head, err := s.open(keys)
		if err != nil {
			c.report.add(s.Size, "The head of %d events in the database %v.", s.Size, err)
			return nil
		}
		c.claim(head, from)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the heads: %w", err)
	}
	return nil
}

// findMissing looks for heads of files that the database should have and has not. stored are in the order of their sizes.
func (c *checker) findMissing(kept, stored []*claim) {
	now := time.Now().Add(clockSkew)
	for _, k := range kept {
		i := sort.Search(len(stored), func(i int) bool { return stored[i].Size >= k.Size })
		switch from := k.source; {
		case i < len(stored) && stored[i].Size == k.Size:
		case i < len(stored) && k.thinnedOut(stored[i].SignedAt, now):
			from.thinned++
		case from.missing == nil:
			from.missing = k
		default:
			from.alsoGone++
		}
	}
}

// clockSkew is how far the clock of whoever checks may be behind the server's.
const clockSkew = 10 * time.Minute

// thinnedOut tells whether a head may be gone because the next one was signed at that time. Of one that was kept alone it is
// not known when it was signed: no later than the next one.
func (c *claim) thinnedOut(next, now time.Time) bool {
	signed := c.SignedAt
	if signed.IsZero() {
		signed = next
	}
	return thinsOut(signed, next, now)
}

// judge holds the heads of the tree's size against it.
func (c *checker) judge() {
	for ; c.judged < len(c.claims) && c.claims[c.judged].Size <= c.tree.size; c.judged++ {
		claim := c.claims[c.judged]
		from := claim.source
		switch fits := claim.Root == c.tree.root(); {
		case !fits && from.bad == nil:
			from.bad = claim
		case !fits:
			from.alsoBad++
		default:
			c.report.Signed = claim.Head
			if from.bad == nil {
				from.good = claim.Head
			}
		}
	}
}

// concludeHeads reports the heads that do not fit a log of that length.
func (c *checker) concludeHeads(length int64) {
	for _, from := range c.sources {
		c.report.Sources = append(c.report.Sources, Source{from.name, from.heads})
		if bad := from.bad; bad != nil {
			c.report.add(from.good.Size+1, "Something in the events %d to %d is not what was signed: the head of %d events %s%s does not fit them%s.",
				from.good.Size+1, bad.Size, bad.Size, from.name, when(bad.SignedAt), others(from.alsoBad))
		}
		if gone := from.missing; gone != nil {
			c.report.add(gone.Size, "The head of %d events %s%s is not in the database any more%s.",
				gone.Size, from.name, when(gone.SignedAt), others(from.alsoGone))
		}
		if from.thinned > 0 {
			c.report.remark("%d heads %s are not in the database, where old heads are thinned out. They were held against the events all the same.",
				from.thinned, from.name)
		}
	}
	if c.judged < len(c.claims) {
		longest := c.claims[len(c.claims)-1]
		c.report.add(length+1, "The log ends at position %d, but the head of %d events %s%s was signed: the events from position %d on are missing.",
			length, longest.Size, longest.source.name, when(longest.SignedAt), length+1)
	}
	covered := int64(0)
	if len(c.claims) > 0 {
		covered = c.claims[len(c.claims)-1].Size
	}
	if unsigned := length - covered; unsigned > 0 {
		c.report.remark("The newest %d events, from position %d on, are not covered by a signed head yet.", unsigned, covered+1)
	}
}

func when(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return ", signed at " + at.UTC().Format(time.RFC3339) + ","
}

func others(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", nor %d others behind it", n)
}

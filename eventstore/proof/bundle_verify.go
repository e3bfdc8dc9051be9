package proof

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/voltrun/voltrun/eventstore"
)

// BundleVerification is what a bundle is checked with, beside itself.
type BundleVerification struct {
	Keys *PublicKeys // whose signature counts; nil for the key that the bundle names
	Kept string      // a file of heads that an auditor has kept; empty for none
}

// BundleReport is what the check of a bundle found.
type BundleReport struct {
	Report
	Header Header
	Head   Head // under which its events stand
	Kept   int  // how many kept heads its log was shown to continue
}

// longestLine bounds the line of an event, in bytes: an input of 6 MB of which each byte takes six in JSON, twice.
const longestLine = 128 << 20

// VerifyBundle checks a bundle without access to anything else: the head's signature, that each event stands under it, and
// that what the events say is what was committed to. What is wrong is in the report; the error is for something that is no
// bundle, or a check that could not be carried out.
func VerifyBundle(from io.Reader, v BundleVerification) (*BundleReport, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, longestLine)
	c := &bundleChecker{report: &BundleReport{}, absent: newAbsences()}
	if err := c.open(lines, v); err != nil || len(c.report.Problems) > 0 {
		return c.report, err // without a head there is nothing to hold the events against
	}
	for lines.Scan() {
		var line struct {
			Line
			Events *int64 `json:"events"` // of the End
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("line %d of the bundle is not an event: %w", c.report.Events+2, err)
		}
		if line.Events != nil {
			c.whole = *line.Events == c.report.Events
			continue
		}
		c.check(&line.Line)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	c.conclude()
	return c.report, nil
}

// bundleChecker is the check of a bundle on its way.
type bundleChecker struct {
	report *BundleReport
	last   int64 // the position of the event in front
	whole  bool  // whether the end has the number of events in front, and nothing is behind it
	tree   tree  // of a complete bundle
	gap    bool  // whether a complete bundle has shown not to be; there is no tree any more
	absent *absences
	older  []Head // kept heads that a complete bundle is held against, by size
}

// open reads the header and checks what it says about the log.
func (c *bundleChecker) open(lines *bufio.Scanner, v BundleVerification) error {
	header := &c.report.Header
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), header) != nil || header.Format != bundleFormat {
		return errors.Join(errors.New("this is not a bundle of VoltRun"), lines.Err())
	}
	if header.Version != bundleVersion {
		return fmt.Errorf("the bundle has version %d, but this VoltRun reads version %d", header.Version, bundleVersion)
	}
	keys := v.Keys
	if keys == nil {
		own, err := ParsePublicKeys(header.PublicKey)
		if err != nil {
			return err
		}
		keys = &own
	}
	head, err := keys.Open(header.Head)
	c.report.Head = head
	switch {
	case err != nil:
		c.report.add(0, "The head of the bundle %v.", err)
		return nil
	case v.Kept == "":
		return nil
	}
	return c.holdAgainst(*keys, v.Kept)
}

// holdAgainst checks that the bundle's log continues the heads that were kept, as far as the bundle can show it.
func (c *bundleChecker) holdAgainst(keys PublicKeys, path string) error {
	header, head := c.report.Header, c.report.Head
	var newest int64
	err := readHeadFile(path, keys, func(older Head) {
		newest = older.Size
		switch {
		case older.Size == head.Size:
			c.continues(older, older.Root == head.Root)
		case older.Size < head.Size && header.Complete:
			c.older = append(c.older, older)
			c.report.Kept++
		case header.Since != nil && older.Size == header.Since.Size && older.Size < head.Size:
			c.continues(older, tlog.CheckTree(header.Since.Proof, head.Size, head.Root, older.Size, older.Root) == nil)
		}
	})
	switch {
	case err != nil:
		return err
	case newest == 0:
		return fmt.Errorf("%s holds no head that is signed by %s", path, keys)
	case c.report.Kept == 0:
		return fmt.Errorf("the bundle cannot be held against a head of %d events; make it with: voltrun audit bundle --since %[1]d", newest)
	}
	slices.SortFunc(c.older, func(a, b Head) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}

func (c *bundleChecker) continues(older Head, does bool) {
	c.report.Kept++
	if !does {
		c.report.add(1, "The log of the bundle, of %d events, does not begin with the %d events of the head that was kept.", c.report.Head.Size, older.Size)
	}
}

func (c *bundleChecker) check(line *Line) {
	c.report.Events++
	c.whole = false
	leaf, err := parseLeaf(line.Leaf)
	switch {
	case err != nil:
		c.report.add(line.Position, "What the bundle has for position %d %v.", line.Position, err)
		return
	case leaf.position != line.Position:
		c.report.add(line.Position, "What the bundle has for position %d is the leaf of position %d.", line.Position, leaf.position)
		return
	case leaf.position <= c.last:
		c.report.add(line.Position, "The event at position %d stands behind the one at position %d in the bundle.", line.Position, c.last)
		return
	}
	c.checkIncluded(line, leaf)
	c.checkContent(line, leaf)
	c.absent.noteErasure(leaf)
	c.last = line.Position
}

// checkIncluded checks that an event stands in the log at its place, and in the bundle for a reason.
func (c *bundleChecker) checkIncluded(line *Line, leaf parsedLeaf) {
	hash, head, header := tlog.RecordHash([]byte(line.Leaf)), c.report.Head, c.report.Header
	if header.Account != nil && leaf.account != *header.Account || header.Execution != nil && leaf.stream != *header.Execution {
		c.report.add(line.Position, "The event at position %d is not one of those that the bundle is about.", line.Position)
	}
	if !header.Complete {
		if tlog.CheckRecord(line.Proof, head.Size, head.Root, line.Position-1, hash) != nil {
			c.report.add(line.Position, "The event at position %d does not stand there in the log that was signed.", line.Position)
		}
		return
	}
	if line.Position != c.last+1 {
		c.report.add(c.last+1, "The bundle has no event at position %d.", c.last+1)
		c.gap = true
	}
	if c.gap {
		return
	}
	c.tree.add(hash, func(tileKey, []byte) {})
	for len(c.older) > 0 && c.older[0].Size <= c.tree.size {
		if c.older[0].Root != c.tree.root() {
			c.report.add(1, "The first %d events of the bundle are not those of the head that was kept.", c.older[0].Size)
		}
		c.older = c.older[1:]
	}
}

func (c *bundleChecker) checkContent(line *Line, leaf parsedLeaf) {
	switch {
	case line.Content != nil && line.Salt != nil:
		salt, err := hex.DecodeString(*line.Salt)
		if err != nil || eventstore.Commit(append(salt, *line.Content...)) != leaf.commitment {
			c.report.add(line.Position, "What the event at position %d (%s) says in the bundle is not what was recorded.", line.Position, leaf.kind)
			return
		}
		c.report.Opened++
		c.absent.noteArchival(leaf, *line.Content)
	case line.Reason == reasonErased:
		c.report.Erased++
		c.absent.erased[leaf.account]++
	case line.Reason == reasonArchived:
		c.report.Archived++
		c.absent.addArchived(leaf)
	default:
		c.report.add(line.Position, "What the event at position %d (%s) says is not in the bundle: %q.", line.Position, leaf.kind, line.Reason)
	}
}

func (c *bundleChecker) conclude() {
	report, head := c.report, c.report.Head
	if !c.whole {
		report.add(0, "The bundle has %d events, but not the end that says so: it is not whole.", report.Events)
	}
	if report.Header.Complete && !c.gap && (c.tree.size != head.Size || c.tree.root() != head.Root) {
		report.add(0, "The events of the bundle are not the %d events that were signed.", head.Size)
	}
	for _, unproved := range []struct {
		events int64
		reason string
	}{{c.absent.erasedUnproved(), reasonErased}, {c.absent.archivedUnproved(), reasonArchived}} {
		if unproved.events > 0 {
			report.remark("%d payloads are absent. The bundle says that they were %s, and nothing in it proves that.", unproved.events, unproved.reason)
		}
	}
	report.sort()
}

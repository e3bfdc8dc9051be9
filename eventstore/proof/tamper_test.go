package proof

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

func fmtInt(n int64) string { return strconv.FormatInt(n, 10) }

func TestAHistoryOfThousandsOfEventsThatNobodyTouchedPasses(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	for range 4 {
		h.grow(1500)
		h.sign()
	}
	h.grow(3)
	var seen []int64
	report := h.verify(func(v *Verification) { v.Progress = func(checked, _ int64) { seen = append(seen, checked) } })
	require.Empty(t, problems(report))
	require.Equal(t, h.length(), report.Events)
	require.Equal(t, report.Events, report.Opened)
	require.Equal(t, []Source{{"in heads.log", 4}, {"in the database", 4}}, report.Sources)
	require.Equal(t, report.Events, seen[len(seen)-1])
	require.Less(t, report.Signed.Size, report.Events)
	require.Len(t, report.Remarks, 1)
	require.Contains(t, report.Remarks[0], fmt.Sprintf("from position %d on, are not covered", report.Signed.Size+1))
}

func TestAnErasedAccountAndAnArchivedPayloadStillVerify(t *testing.T) {
	t.Parallel()
	h, head := signed(t)
	h.erase(h.accounts[0])
	h.tamper("update events set data = null where position in (1, 2, 3, 500)")
	report := h.verify()
	require.Empty(t, problems(report))
	require.Equal(t, head.Size, report.Signed.Size)
	require.EqualValues(t, 4, report.Archived)
	require.Greater(t, report.Erased, int64(400))
	require.Equal(t, report.Events, report.Opened+report.Erased+report.Archived)
}

func TestAKeyThatIsGoneWithoutAnErasureIsFound(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	require.NoError(t, h.store.Erase(t.Context(), h.accounts[1]))
	h.codec = storetest.Codec(h.store)
	found := problems(h.verify())
	require.Equal(t, 1, strings.Count(found, "\n"), found)
	require.Contains(t, found, h.accounts[1].String())
	require.Contains(t, found, "the log does not say that it was erased")
}

// moved is what was moved out of the log.
type moved map[eventstore.Position][]byte

func (m moved) Payload(_ context.Context, position eventstore.Position) ([]byte, error) {
	return m[position], nil
}

func TestWhatWasArchivedIsCheckedWhenTheArchiveIsAtHand(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	archive := moved{}
	for b := range readLog(t.Context(), h.store.Pool(), 500) {
		require.NoError(t, b.err)
		for _, r := range b.rows {
			archive[eventstore.Position(r.position)] = r.data
		}
	}
	h.tamper("update events set data = null where position <= 501")
	require.EqualValues(t, 501, h.verify().Archived)

	h.archive = archive
	report := h.verify()
	require.Empty(t, problems(report))
	require.EqualValues(t, 1, report.Archived)
	require.EqualValues(t, 911, report.Opened)
	require.EqualValues(t, 911, requireGood(t, h.bundle(Excerpt{})).Opened)

	archive[402][40]++
	require.Regexp(t, `402: The payload at position 402 .* cannot be read: .*altered`, problems(h.verify()))
}

func TestAPayloadThatIsGoneWithoutHavingBeenArchivedIsFound(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	h.tamper("update events set data = null where position in (500, 501)")
	report := h.verify(func(v *Verification) {
		v.Moved = func(_ context.Context, position eventstore.Position, _ string, _ uuid.UUID) (bool, error) {
			return position == 501, nil
		}
	})
	require.EqualValues(t, 1, report.Archived)
	require.Regexp(t, `^500: The payload at position 500 .* is gone, and the log does not say that it was archived\.\n$`, problems(report))
}

// Each of these is what somebody could do who has the whole database, but not the signing key and not the file of heads.
func TestWhatASuperuserAltersIsFoundWithItsPosition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statements []string
		found      []string
	}{
		"a sealed payload": {
			[]string{"update events set data = set_byte(data, 40, get_byte(data, 40) # 1) where position = 402"},
			[]string{`^402: The payload at position 402 \(execution\.\w+, .* cannot be read: .*altered`},
		},
		"a plain payload": {
			[]string{"update events set data = set_byte(data, 20, get_byte(data, 20) # 1) where position = (select min(position) from events where type = 'email.reserved')"},
			[]string{`^6: The payload at position 6 \(email.reserved, .* is not the one that was recorded`},
		},
		"a plain payload with its commitment": {
			[]string{"update events set data = '\\x00'::bytea || sha256('x'), commitment = sha256(sha256('x')) where position = 402"},
			[]string{`^402: The event at position 402 \(execution`, `^305: Something in the events 305 to 608 .* head of 608 events in heads.log`, `in the database`},
		},
		"who did it": {
			[]string{"update events set actor_id = gen_random_uuid() where position = 402"},
			[]string{`^402: The event at position 402`},
		},
		"when it happened": {
			[]string{"update events set recorded_at = recorded_at - interval '1 microsecond' where position = 402"},
			[]string{`^402: The event at position 402`},
		},
		"an absent prefix that becomes a dash": {
			[]string{"update events set actor_prefix = '-' where position = 6"},
			[]string{`^6: The event at position 6`},
		},
		"a time before the event in front": {
			[]string{"update events set recorded_at = recorded_at - interval '1 hour' where position = 402"},
			[]string{`^402: .* was recorded before the one in front of it`},
		},
		"the order of two events": {
			[]string{"create temp table moved as select * from events where position in (402, 403)", "delete from events where position in (402, 403)",
				"insert into events select case position when 402 then 403 else 402 end, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, actor_prefix, correlation_id, causation_id, recorded_at, commitment, headers, data from moved"},
			[]string{`^402: The event at position 402`, `^403: The event at position 403`, `^403: .* does not follow version`},
		},
		"an event that is gone": {
			[]string{"delete from events where position = 402"},
			[]string{`^402: The event at position 402 is missing`, `^403: .* does not follow version`},
		},
		"many events that are gone": {
			[]string{"delete from events where position between 402 and 700"},
			[]string{`^402: The events at the positions 402 to 700 are missing`},
		},
		"the end of the log that is gone": {
			[]string{"delete from events where position > 900", "update head set position = 900"},
			[]string{`^901: The log ends at position 900, but the head of 912 events .* the events from position 901 on are missing`},
		},
		"a log that says it is shorter": {
			[]string{"update head set position = 900"},
			[]string{`^901: The log says that it ends at position 900, but it has events up to 912`},
		},
		"an event behind the end that nobody appended": {
			[]string{"insert into events select 913, stream_id, version + 7, gen_random_uuid(), type, schema_version, account_id, actor_kind, actor_id, actor_prefix, correlation_id, causation_id, recorded_at, commitment, headers, data from events where position = 402"},
			[]string{`^913: The log says that it ends at position 912`, `^913: The event at position 913 .* does not follow version`},
		},
		"a stream that does not begin": {
			[]string{"insert into events select 913, gen_random_uuid(), 2, gen_random_uuid(), type, schema_version, account_id, actor_kind, actor_id, actor_prefix, correlation_id, causation_id, recorded_at, commitment, headers, data from events where position = 402"},
			[]string{`^913: The event at position 913 .* does not follow version 1 of its stream`},
		},
		"where a stream begins": {
			[]string{"update streams set first_position = first_position + 1 where stream_id = (select stream_id from events where position = 403)"},
			[]string{`^401: The table of streams says that stream \S+ begins at position 402, but its first event is at position 401`},
		},
		"how many events a stream has: less": {
			[]string{"update streams set version = version - 1 where stream_id = (select stream_id from events where position = 403)"},
			[]string{`^405: The table of streams says that stream \S+ has 4 events, but version 5 is at position 405`},
		},
		"how many events a stream has: more": {
			[]string{"update streams set version = version + 2 where stream_id = (select stream_id from events where position = 403)"},
			[]string{`^405: The table of streams says that stream \S+, from position 401 on, has 7 events, but the log has 5 of it, the last at position 405`},
		},
		"how many events two streams have, with the same sum": {
			[]string{"update streams set version = version - 1 where stream_id = (select stream_id from events where position = 403)",
				"update streams set version = version + 1 where stream_id = (select stream_id from events where position = 802)"},
			[]string{`^405: The table of streams says that stream \S+ has 4 events, but version 5 is at position 405`},
		},
		"a stream that is not in the table of streams": {
			[]string{"delete from streams where stream_id = (select stream_id from events where position = 403)"},
			[]string{`^405: The table of streams says that stream \S+ has 0 events, but version 5 is at position 405`},
		},
		"a stream that has no events": {
			[]string{"insert into streams (stream_id, version, first_position) values (gen_random_uuid(), 0, 500)"},
			[]string{`^500: The table of streams says that stream \S+, from position 500 on, has 0 events, but the log has 0 of it`},
		},
		"a head that is gone": {
			[]string{"delete from heads where size = 608"},
			[]string{`^608: The head of 608 events in heads.log, signed at .*, is not in the database any more`},
		},
		"a head that says something else": {
			[]string{"update heads set root = sha256(root) where size = 608"},
			[]string{`^608: The head of 608 events in the database says something else than its signed note`},
		},
		"a signature": {
			[]string{"update heads set note = replace(note, '608', '609'), size = 609 where size = 608"},
			[]string{`^609: The head of 609 events in the database has a signature that does not fit`, `^608: The head of 608 .* is not in the database any more`},
		},
		"a stored hash of an event": {
			[]string{"update tiles set hashes = set_byte(hashes, 32 * 145, get_byte(hashes, 32 * 145) # 1) where level = 0 and index = 1"},
			[]string{`^402: The stored tree has another hash than the event at position 402 .* which is the one that was signed`},
		},
		"a stored hash above the events": {
			[]string{"update tiles set hashes = set_byte(hashes, 33, get_byte(hashes, 33) # 1) where level = 1 and index = 0"},
			[]string{`^1: The stored tree over the events 1 to 65536 \(level 1\) is not the tree of these events`},
		},
		"a stored tree that is gone": {
			[]string{"delete from tiles"},
			[]string{`^1: The stored tree has another hash than the event at position 1`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, head := signed(t)
			require.EqualValues(t, 912, head.Size)
			h.tamper(c.statements...)
			h.codec = storetest.Codec(h.store) // which remembers no key
			text := problems(h.verify())
			for _, found := range c.found {
				require.Regexp(t, regexp.MustCompile("(?m)"+found), text)
			}
		})
	}
}

// rewriteAt alters an event and makes everything in the database fit it again: the tail, the tree, and a head, signed by key.
func (h *history) rewriteAt(position int64, key *Key) {
	h.Helper()
	h.tamper("update events set actor_id = gen_random_uuid() where position = "+fmtInt(position), "truncate tiles", "truncate heads")
	forger := NewKeeper(h.store, key, Witness{filepath.Join(h.TempDir(), "none")}, slog.New(slog.DiscardHandler))
	_, _, err := forger.turn(h.Context())
	require.NoError(h, err)
}

func TestARewrittenTailWithAHeadOfAnotherKeyIsFound(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	forger := newKey(t)
	h.rewriteAt(402, forger)
	text := problems(h.verify())
	require.Regexp(t, `912: The head of 912 events in the database is signed by `+regexp.QuoteMeta(forger.signer.Name())+`\S+ and not by `, text)
	require.Regexp(t, `305: Something in the events 305 to 608 is not what was signed: the head of 608 events in heads.log, signed at`, text)
	require.Regexp(t, `The head of 304 events in heads.log.* is not in the database any more`, text)
}

func TestARewrittenTailWithAHeadOfTheRealKeyIsFoundByTheFileOfHeads(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	h.rewriteAt(402, h.key)
	text := problems(h.verify())
	require.Regexp(t, `305: Something in the events 305 to 608 is not what was signed: the head of 608 events in heads.log, signed at`, text)
	require.Regexp(t, `The head of 304 events in heads.log.* is not in the database any more`, text)
}

func TestARewrittenTailIsFoundByAHeadThatAnAuditorKeptEvenWhenEverythingElseIsGone(t *testing.T) {
	t.Parallel()
	h, head := signed(t)
	kept := filepath.Join(t.TempDir(), "head.txt")
	require.NoError(t, os.WriteFile(kept, []byte(head.Note), 0o600))
	check := func(v *Verification) { v.Kept = kept }
	require.Empty(t, problems(h.verify(check)))

	h.rewriteAt(402, h.key)
	require.NoError(t, os.Remove(h.witness.Path))
	blind := h.verify()
	require.Empty(t, problems(blind), "whoever has the key and every head can make up a past")
	require.Contains(t, blind.Remarks[0], "There is no heads.log")
	require.Regexp(t, `1: Something in the events 1 to 912 is not what was signed: the head of 912 events that was kept does not fit them`, problems(h.verify(check)))
}

func TestAKeeperSignsNothingThatContradictsWhatWasSigned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statements []string
		why        string
	}{
		"heads and tree are gone":               {[]string{"truncate heads", "truncate tiles"}, `a head of 912 events was signed, but the newest in the database has 0`},
		"the newest heads are gone":             {[]string{"delete from heads where size > 304"}, `a head of 912 events was signed, but the newest in the database has 304: .* from position 305 on was removed`},
		"the newest head says something else":   {[]string{"update heads set root = sha256(root) where size = 912"}, `newest head in the database, of 912 events, says something else`},
		"the stored tree was altered":           {[]string{"update tiles set hashes = set_byte(hashes, 32 * 140, get_byte(hashes, 32 * 140) # 1) where level = 0 and index = 3"}, `the stored tree is not the one whose head of 912 events was signed`},
		"the stored tree is gone":               {[]string{"truncate tiles"}, `the stored tree over the events 769 to 1024 \(level 0\) is damaged`},
		"the log was cut":                       {[]string{"delete from events where position > 900", "update head set position = 900"}, `the log ends at position 900, but 912 events were signed: the events from position 901 on were removed`},
		"an event is gone before it was signed": {[]string{"delete from events where position = 915"}, `the log has no event at position 915`},
		"the end is gone before it was signed":  {[]string{"delete from events where position > 915"}, `the log has no event at position 916`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _ := signed(t)
			h.grow(10)
			h.tamper(c.statements...)
			_, _, err := h.keeper.turn(t.Context())
			require.True(t, IsBroken(err), "%v", err)
			require.Regexp(t, c.why, err.Error())
			var newest int64
			require.NoError(t, h.store.Pool().QueryRow(t.Context(), "select coalesce(max(size), 0) from heads").Scan(&newest))
			require.LessOrEqual(t, newest, int64(912))
		})
	}
}

func TestAKeeperSignsNoRewrittenPastAndSaysWhereItLeavesWhatWasSigned(t *testing.T) {
	t.Parallel()
	h, _ := signed(t)
	h.rewriteAt(402, h.key)
	h.grow(10)
	_, _, err := h.keeper.turn(t.Context())
	require.True(t, IsBroken(err), "%v", err)
	require.ErrorContains(t, err, "something is different in the events 305 to 608")
}

func TestTheStatusSaysThatTheProofIsBroken(t *testing.T) {
	t.Parallel()
	h, head := signed(t)
	h.keeper.Start()
	t.Cleanup(h.keeper.Stop)
	require.Eventually(t, func() bool { return h.keeper.Status().Size == head.Size }, 30*time.Second, 5*time.Millisecond)
	h.tamper("truncate heads")
	h.grow(10)
	require.Eventually(t, func() bool { return h.keeper.Status().Broken != "" }, 30*time.Second, 5*time.Millisecond)
	require.Contains(t, h.keeper.Status().Broken, "a head of 912 events was signed")
	require.Equal(t, head.Size, h.keeper.Status().Size)
}

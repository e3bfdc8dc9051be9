package archive

import (
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func ignore(domain.LogArchived) {}

func TestOldLinesOfClosedPartitionsMoveToFilesAndAllElseStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	account := f.register(t, 0)
	f.fill(t, 2500, account)
	before := f.events(t)
	var facts []domain.LogArchived
	require.NoError(t, f.archiver(31, month).Run(t.Context(), func(e domain.LogArchived) { facts = append(facts, e) }))

	require.Equal(t, []string{"events-1-1000-1.ndjson.gz", "events-1001-2000-1.ndjson.gz"}, f.files(t))
	require.Len(t, facts, 2)
	archived := f.requireWhole(t, before)
	require.EqualValues(t, facts[0].Events+facts[1].Events, archived)
	for i, e := range f.events(t)[:2500] {
		require.Equal(t, e.Type == lines && e.Position <= 2000, e.Data == nil, "event %d", i)
	}

	added := f.events(t)[len(before):]
	require.Len(t, added, 2, "a fact for each file")
	for i, e := range added {
		require.Equal(t, domain.Actor{Kind: domain.ActorSystem}, e.Actor)
		fact, err := f.codec.Decode(t.Context(), e.NewEvent)
		require.NoError(t, err)
		require.Equal(t, facts[i], fact)
		require.Empty(t, facts[i].Accounts, "of all")
		require.Empty(t, facts[i].Except)
	}
	require.NoError(t, f.archiver(31, month).Run(t.Context(), ignore))
	require.Len(t, f.files(t), 2, "nothing is due twice")
	require.Len(t, f.events(t), len(before)+2)
}

// The files are for people and for other tools as well.
func TestAFileIsReadWithOrdinaryTools(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	f.fill(t, 1500, f.register(t, 0))
	before := f.events(t)
	var fact domain.LogArchived
	require.NoError(t, f.archiver(31, month).Run(t.Context(), func(e domain.LogArchived) { fact = e }))
	file := filepath.Join(f.dir, fact.File)
	sum, err := exec.Command("sha256sum", file).Output()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(sum), fact.SHA256))
	shown, err := exec.Command("zcat", file).Output()
	require.NoError(t, err)
	require.EqualValues(t, fact.Events, strings.Count(string(shown), "\n"))
	first, _, _ := strings.Cut(string(shown), "\n")
	line := before[4-1] // the registration, the request, the start, and then it is
	require.Equal(t, lines, line.Type)
	require.Contains(t, first, `{"position":4,"id":"`+line.ID.String()+`","type":"execution.log_line","commitment":"`+hex.EncodeToString(line.Commitment[:])+`","data":"`)
}

func TestAnAccountsOwnRetentionComesBeforeTheOperators(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	short, usual, long := f.register(t, 7), f.register(t, 0), f.register(t, 90)
	f.fill(t, 2000, short, usual, long)
	before := f.events(t)
	holds := func() map[uuid.UUID]bool {
		left := map[uuid.UUID]bool{}
		for _, e := range f.events(t)[:partition] {
			if e.Type == lines && e.Data != nil {
				left[e.AccountID] = true
			}
		}
		return left
	}
	var last domain.LogArchived
	for _, step := range []struct {
		days     int
		operator map[string]time.Duration
		left     map[uuid.UUID]bool
		want     domain.LogArchived
	}{
		{6, month, map[uuid.UUID]bool{short: true, usual: true, long: true}, domain.LogArchived{}},
		{8, nil, map[uuid.UUID]bool{usual: true, long: true}, domain.LogArchived{Accounts: []uuid.UUID{short}}},
		{31, nil, map[uuid.UUID]bool{usual: true, long: true}, domain.LogArchived{Accounts: []uuid.UUID{short}}},
		{31, month, map[uuid.UUID]bool{long: true}, domain.LogArchived{Accounts: []uuid.UUID{usual}}},
		{91, month, map[uuid.UUID]bool{}, domain.LogArchived{}},
	} {
		require.NoError(t, f.archiver(step.days, step.operator).Run(t.Context(), func(e domain.LogArchived) {
			last = domain.LogArchived{Accounts: e.Accounts, Except: e.Except}
		}))
		require.Equal(t, step.left, holds(), "after %d days", step.days)
		require.Equal(t, step.want, last, "after %d days", step.days)
		f.requireWhole(t, before)
	}
	require.Len(t, f.files(t), 3*2)
}

func TestTheShorterListTellsWhoseLinesMoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	keeps := f.register(t, 90)
	f.fill(t, 1500, f.register(t, 0), f.register(t, 0), keeps, f.register(t, 0))
	require.NoError(t, f.archiver(31, month).Run(t.Context(), func(e domain.LogArchived) {
		require.Equal(t, []uuid.UUID{keeps}, e.Except)
		require.Empty(t, e.Accounts)
	}))
	require.Len(t, f.files(t), 1)
}

func TestNothingMovesWithoutARetention(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	f.fill(t, 1500, f.register(t, 0))
	before := f.events(t)
	require.NoError(t, f.archiver(10_000, nil).Run(t.Context(), ignore))
	require.Equal(t, before, f.events(t))
}

func TestTwoArchiversDoNotWorkOnOneLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	unlock, err := f.archiver(0, nil).lock(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, f.archiver(0, nil).Run(t.Context(), ignore), ErrBusy)
	unlock()
	require.NoError(t, f.archiver(0, nil).Run(t.Context(), ignore))
}

// A folder that several logs use, or one from before a backup was restored, loses no file.
func TestAFileOfAnotherLogIsNotOverwritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	f.fill(t, 1500, f.register(t, 0))
	before := f.events(t)
	require.NoError(t, os.MkdirAll(f.dir, 0o700))
	theirs := filepath.Join(f.dir, "events-1-1000-1.ndjson.gz")
	require.NoError(t, os.WriteFile(theirs, []byte("theirs"), 0o600))
	require.NoError(t, f.archiver(31, month).Run(t.Context(), ignore))
	content, err := os.ReadFile(theirs)
	require.NoError(t, err)
	require.Equal(t, "theirs", string(content))
	require.Equal(t, []string{"events-1-1000-1.ndjson.gz", "events-1-1000-2.ndjson.gz"}, f.files(t))
	require.Positive(t, f.requireWhole(t, before))
}

func TestAFileThatWasAlteredBeforeThePayloadsLeftKeepsThemInTheLog(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]func(t *testing.T, file string){
		"one byte": func(t *testing.T, file string) {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			content[len(content)-1]++ // of the length at the end of the last member
			require.NoError(t, os.WriteFile(file, content, 0o600))
		},
		"the end":    func(t *testing.T, file string) { require.NoError(t, os.Truncate(file, 100)) },
		"everything": func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, partition)
			f.fill(t, 1500, f.register(t, 0))
			before := f.events(t)
			a := f.archiver(31, month)
			a.step = func(step string) {
				if step == "told" {
					alter(t, filepath.Join(f.dir, "events-1-1000-1.ndjson.gz"))
				}
			}
			require.Error(t, a.Run(t.Context(), ignore))
			require.Equal(t, before, f.events(t)[:len(before)])
			if name == "everything" { // it is made again
				require.NoError(t, f.archiver(31, month).Run(t.Context(), ignore))
				require.Positive(t, f.requireWhole(t, before))
				return
			}
			require.Error(t, f.archiver(31, month).Run(t.Context(), ignore), "until the file is back")
			require.Equal(t, before, f.events(t)[:len(before)])
		})
	}
}

func TestAnErasedAccountsPayloadsAreArchivedAsTheyAre(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	account := f.register(t, 90)
	f.fill(t, 1500, account)
	before := f.events(t)
	require.NoError(t, f.store.Erase(context.Background(), account))
	again := openFixture(t, f.dsn, f.dir, partition) // without the key in its memory
	require.NoError(t, again.archiver(31, month).Run(t.Context(), ignore))
	require.Positive(t, again.requireWhole(t, before))
	for _, e := range again.events(t) {
		fact, err := again.codec.Decode(t.Context(), e.NewEvent)
		require.NoError(t, err)
		if e.Data == nil {
			require.Equal(t, domain.Archived{Type: lines}, fact)
		}
	}
}

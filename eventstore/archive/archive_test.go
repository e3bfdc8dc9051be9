package archive

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
)

// archived is a log whose first partition is archived, and its events from before.
func archived(t *testing.T) (fixture, []eventstore.Event) {
	t.Helper()
	f := newFixture(t, partition)
	f.fill(t, 1500, f.register(t, 0))
	before := f.events(t)
	require.NoError(t, f.archiver(31, month).Run(t.Context(), ignore))
	return f, before
}

func (f fixture) open(t *testing.T) *Archive {
	a := Open(f.store.Pool(), f.dir)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestAPayloadIsFoundInTheArchiveByItsPosition(t *testing.T) {
	t.Parallel()
	f, before := archived(t)
	a := f.open(t)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for _, e := range before {
				payload, err := a.Payload(t.Context(), e.Position)
				if err != nil || (payload != nil) != (e.Type == lines && e.Position <= partition) || payload != nil && !bytes.Equal(payload, e.Data) {
					t.Errorf("event %d: %q, %v", e.Position, payload, err)
				}
			}
		})
	}
	readers.Wait()
}

// openIn is how many files of a folder the process has open.
func openIn(t *testing.T, dir string) (n int) {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, d := range descriptors {
		if target, err := os.Readlink("/proc/self/fd/" + d.Name()); err == nil && filepath.Dir(target) == dir {
			n++
		}
	}
	return n
}

// The readers go through six files, of which the archive keeps two open.
func TestManyReadersOfManyFilesKeepFewOpen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	f.fill(t, 6*partition+100, f.register(t, 0))
	before := f.events(t)
	require.NoError(t, f.archiver(31, month).Run(t.Context(), ignore))
	require.Len(t, f.files(t), 6)
	const files, readers = 2, 4
	a := open(f.store.Pool(), f.dir, files)
	var running sync.WaitGroup
	for reader := range readers {
		running.Go(func() {
			for n := range 600 {
				e := before[(reader*1511+n*379)%(6*partition)]
				payload, err := a.Payload(t.Context(), e.Position)
				if err != nil || (payload != nil) != (e.Type == lines) || payload != nil && !bytes.Equal(payload, e.Data) {
					t.Errorf("event %d: %q, %v", e.Position, payload, err)
				}
				if n%50 == 0 {
					assert.LessOrEqual(t, openIn(t, f.dir), files+2*readers)
				}
			}
		})
	}
	running.Wait()
	require.Equal(t, files, openIn(t, f.dir))
	require.NoError(t, a.Close())
	require.Zero(t, openIn(t, f.dir))
}

func TestWhatIsInNoFileThatIsThereIsNotInTheArchive(t *testing.T) {
	t.Parallel()
	f, before := archived(t)
	file := filepath.Join(f.dir, f.files(t)[0])
	require.NoError(t, os.Rename(file, file+".elsewhere"))
	a := f.open(t)
	for _, position := range []eventstore.Position{0, 4, partition + 5, 1 << 40} {
		payload, err := a.Payload(t.Context(), position)
		require.NoError(t, err)
		require.Nil(t, payload)
	}
	require.NoError(t, os.Rename(file+".elsewhere", file))
	payload, err := a.Payload(t.Context(), 4)
	require.NoError(t, err)
	require.Equal(t, before[3].Data, payload, "it is back")
}

func TestAFileThatIsArchivedWhileTheArchiveIsReadIsFound(t *testing.T) {
	t.Parallel()
	f, before := archived(t)
	a := f.open(t)
	f.fill(t, 500, before[0].AccountID)
	payload, err := a.Payload(t.Context(), partition+5)
	require.NoError(t, err)
	require.Nil(t, payload)
	require.NoError(t, f.archiver(31, month).Run(t.Context(), ignore))
	require.Eventually(t, func() bool {
		payload, err := a.Payload(t.Context(), partition+5)
		return err == nil && payload != nil
	}, 2*lookAgain, 20*time.Millisecond)
}

func TestAFileThatIsNotTheRecordedOneIsNotRead(t *testing.T) {
	t.Parallel()
	f, _ := archived(t)
	file := filepath.Join(f.dir, f.files(t)[0])
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	content[len(content)/2]++
	require.NoError(t, os.WriteFile(file, content, 0o600))
	_, err = f.open(t).Payload(t.Context(), 4)
	require.ErrorContains(t, err, "is not the one that was recorded")
	require.ErrorContains(t, err, f.files(t)[0])
}

func TestBlocksAreFoundWithoutReadingThem(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	w := blockWriter{out: &file}
	for n := range 2500 {
		require.NoError(t, w.write(line{Position: eventstore.Position(10 * n), Data: bytes.Repeat([]byte{1}, 2*n)}))
	}
	require.NoError(t, w.flush())
	content := bytes.NewReader(file.Bytes())
	blocks, err := readBlocks(content, content.Size())
	require.NoError(t, err)
	require.Greater(t, len(blocks), 2500/blockEvents+1, "large lines end a block sooner")
	next := eventstore.Position(0)
	for _, b := range blocks {
		require.Equal(t, next, b.first)
		payloads, err := b.read(content)
		require.NoError(t, err)
		require.Len(t, payloads, int(b.last-b.first)/10+1)
		require.Len(t, payloads[b.last], 2*int(b.last)/10)
		next = b.last + 10
	}
	for cut := range 200 { // no end of it is taken for a whole file
		_, err := readBlocks(content, content.Size()-int64(cut)-1)
		require.Error(t, err)
	}
}

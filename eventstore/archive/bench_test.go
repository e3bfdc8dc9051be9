package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// benchEvents is how many events the partition has, seven tenths of them lines.
const benchEvents = 200_000

// BenchmarkArchive archives one partition while somebody appends, and reads from its file.
func BenchmarkArchive(b *testing.B) {
	for b.Loop() {
		f := newFixture(b, benchEvents)
		account := f.register(b, 0)
		var writers sync.WaitGroup
		for range 32 {
			writers.Go(func() { f.fillFast(b, (benchEvents+1000)/32+10, account) })
		}
		writers.Wait()

		began := time.Now()
		ctx, stop := context.WithCancel(context.Background())
		var slowest time.Duration
		var appender sync.WaitGroup
		appender.Go(func() {
			for ctx.Err() == nil {
				before := time.Now()
				f.fill(b, 10, account)
				slowest = max(slowest, time.Since(before))
			}
		})
		var fact domain.LogArchived
		require.NoError(b, f.archiver(31, month).Run(b.Context(), func(e domain.LogArchived) { fact = e }))
		took := time.Since(began)
		stop()
		appender.Wait()
		info, err := os.Stat(filepath.Join(f.dir, fact.File))
		require.NoError(b, err)

		a := Open(f.store.Pool(), f.dir)
		began = time.Now()
		_, err = a.Payload(b.Context(), 4)
		require.NoError(b, err)
		first := time.Since(began)
		began = time.Now()
		const reads = 200
		for range reads {
			_, err := a.Payload(b.Context(), 1+rand.N[eventstore.Position](benchEvents))
			require.NoError(b, err)
		}
		anywhere := time.Since(began) / reads
		require.NoError(b, a.Close())
		b.ReportMetric(float64(benchEvents)/took.Seconds(), "events/s")
		b.ReportMetric(float64(info.Size())/float64(fact.Events), "bytes/line")
		b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-append-ms")
		b.ReportMetric(float64(first.Microseconds())/1000, "first-read-ms")
		b.ReportMetric(float64(anywhere.Microseconds())/1000, "read-ms")
	}
}

// fillFast appends executions of a hundred events.
func (f fixture) fillFast(b *testing.B, events int, account uuid.UUID) {
	for n := 0; n < events; n += 100 {
		id := uuid.New()
		facts := []domain.Event{domain.ExecutionRequested{ExecutionID: id, AccountID: account, Input: json.RawMessage("{}")}, domain.ExecutionStarted{WorkerID: id}}
		for i := range 70 {
			facts = append(facts, domain.ExecutionLogLine{Stream: domain.Stdout, Text: fmt.Sprintf("line %d of %s", i, id), At: time.Now().UTC()})
		}
		for range 28 {
			facts = append(facts, domain.ExecutionCompleted{Output: json.RawMessage("1"), DurationMS: 1})
		}
		f.append(b, id, account, facts...)
	}
}

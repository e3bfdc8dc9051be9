package proof

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
)

const (
	benchEvents = 100_000
	benchRounds = 5
)

// BenchmarkProof compares the keeper and the verification with raw reads of the same columns over one connection, in the
// same run. The ratios are what counts; the rates are this machine's.
func BenchmarkProof(b *testing.B) {
	h := benchHistory(b)
	b.Logf("%d events", h.length())
	rates := map[string][]float64{}
	measure := func(name string, run func() error) {
		began := time.Now()
		require.NoError(b, run())
		rates[name] = append(rates[name], float64(h.length())/time.Since(began).Seconds())
	}
	for b.Loop() {
		for range benchRounds {
			measure("raw read of leaves", func() error { return rawRead(h, leafColumns) })
			measure("raw read of events", func() error { return rawRead(h, leafColumns+", data") })
			measure("keeper", func() error { return signAnew(h) })
			measure("verify", func() error { return verifyAll(h) })
		}
	}
	median := func(name string) float64 {
		slices.Sort(rates[name])
		return rates[name][len(rates[name])/2]
	}
	b.ReportMetric(median("keeper"), "signed/s")
	b.ReportMetric(median("verify"), "verified/s")
	b.ReportMetric(median("keeper")/median("raw read of leaves"), "x-read@keeper")
	b.ReportMetric(median("verify")/median("raw read of events"), "x-read@verify")
	for name := range rates {
		b.Logf("%-20s %9.0f events/s", name, median(name))
	}
}

// BenchmarkAppendBesideAKeeper compares appends with and without a keeper that follows them. Both cores work for the
// appends alone without one, so what it takes of them shows.
func BenchmarkAppendBesideAKeeper(b *testing.B) {
	h := newHistory(b)
	write := h.execution(h.accounts[0])
	var rates, ratios []float64
	for b.Loop() {
		for range 2 * benchRounds {
			alone := appendAll(h, write)
			h.sign()
			keeper := NewKeeper(h.store, h.key, h.witness, slog.New(slog.DiscardHandler))
			keeper.Start()
			beside := appendAll(h, write)
			keeper.Stop()
			h.sign()
			rates, ratios = append(rates, beside), append(ratios, beside/alone)
		}
	}
	slices.Sort(rates)
	slices.Sort(ratios)
	b.ReportMetric(rates[benchRounds], "appends/s")
	b.ReportMetric(ratios[benchRounds], "x-alone")
}

// appendAll appends executions from 128 writers for a while and returns how many a second.
func appendAll(h *history, like eventstore.Write) float64 {
	h.Helper()
	var done atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 128 {
		wg.Go(func() {
			for time.Since(began) < 1500*time.Millisecond {
				write := eventstore.Write{StreamID: uuid.New(), Expected: eventstore.New, Events: slices.Clone(like.Events)}
				for i := range write.Events {
					write.Events[i].ID = uuid.New()
				}
				if _, err := h.store.Append(context.Background(), write); err != nil {
					h.Errorf("append: %v", err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

func benchHistory(b *testing.B) *history {
	b.Helper()
	h := newHistory(b)
	h.grow(benchEvents)
	h.sign()
	_, err := h.store.Pool().Exec(context.Background(), "vacuum analyze")
	require.NoError(b, err)
	return h
}

// rawRead reads columns of the whole log and makes nothing of them.
func rawRead(h *history, columns string) error {
	rows, err := h.store.Pool().Query(context.Background(), "select "+columns+" from events order by position")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		rows.RawValues()
	}
	return rows.Err()
}

// signAnew makes the tree from the first event on.
func signAnew(h *history) error {
	if _, err := h.store.Pool().Exec(context.Background(), "truncate tiles; truncate heads"); err != nil {
		return err
	}
	keeper := NewKeeper(h.store, h.key, Witness{h.TempDir() + "/heads.log"}, slog.New(slog.DiscardHandler))
	for more := true; more; {
		var err error
		if _, more, err = keeper.turn(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

func verifyAll(h *history) error {
	report, err := Verify(context.Background(), h.store.Pool(), Verification{Codec: h.codec, Keys: h.key.PublicKeys})
	if err == nil {
		require.Empty(h, report.Problems)
	}
	return err
}

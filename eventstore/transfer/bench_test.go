package transfer_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/transfer"
)

// BenchmarkMove moves a whole log and an account of some 50,000 events to other VoltRuns.
func BenchmarkMove(b *testing.B) {
	from := newInstance(b, 1, 1_000_000)
	ada := from.live(b, "ada@example.com", 1)
	for range 8 {
		from.past(b, ada, 1000)
	}
	head, err := from.store.Head(b.Context())
	require.NoError(b, err)
	rate := func(of string, move func()) {
		began := time.Now()
		move()
		b.ReportMetric(float64(head)/time.Since(began).Seconds(), of+"-events/s")
	}
	for b.Loop() {
		var log, account bytes.Buffer
		rate("log-export", func() {
			_, err := from.source().ExportLog(b.Context(), key, &log)
			require.NoError(b, err)
		})
		rate("account-export", func() {
			_, err := from.source().ExportAccount(b.Context(), key, ada.account, transfer.AccountOptions{}, &account)
			require.NoError(b, err)
		})
		for of, file := range map[string][]byte{"log-import": log.Bytes(), "account-import": account.Bytes()} {
			to := newInstance(b, 2, 1_000_000)
			rate(of, func() {
				_, err := to.take(file)
				require.NoError(b, err)
			})
		}
		b.ReportMetric(float64(log.Len())/float64(head), "bytes/event")
	}
}

package projections_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/storetest"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

const (
	historyShare  = 20  // one event in so many is the account's that is asked about
	historyPage   = 20  // events or executions
	historyRounds = 200 // of each question to each log, in turns, so that a busy moment of the machine hits all alike
	mostGrowth    = 1.3 // what a page may cost more in the largest log than in the smallest
)

// question is something that is read of a log.
type question struct {
	name    string
	ask     func(ctx context.Context, l historyLog) error
	bounded bool // whether its cost must not grow with the log
}

var questions = []question{
	{"raw keyset page", askRaw, false},
	{"audit, newest page", askAudit(projections.Audit{}), true},
	{"audit, page in the middle", askMiddle, true},
	{"audit, one type", askAudit(projections.Audit{Types: []string{"execution.requested"}}), true},
	{"events of an execution", askEvents, true},
	{"execution as of", askExecution, true},
	{"executions as of, page", askExecutions, true},
	{"functions as of", askFunctions, true},
}

// BenchmarkHistory prints what reads of history cost in logs of 10,000, 100,000 and 1,000,000 events, beside the bare SQL
// that reads as many events of an account, in the same run.
func BenchmarkHistory(b *testing.B) {
	logs := []historyLog{newHistoryLog(b, 10_000), newHistoryLog(b, 100_000), newHistoryLog(b, 1_000_000)}
	for b.Loop() {
		times := measure(b, logs)
		raw := times[0]
		b.Logf("%-28s %10s %10s %10s   growth  against raw", "", "10^4", "10^5", "10^6")
		for i, q := range questions {
			growth := times[i][2].Seconds() / times[i][0].Seconds()
			b.Logf("%-28s %10s %10s %10s   %5.2fx  %.2fx", q.name, round(times[i][0]), round(times[i][1]), round(times[i][2]),
				growth, times[i][2].Seconds()/raw[2].Seconds())
		}
		for i, q := range questions {
			if q.bounded {
				require.LessOrEqual(b, times[i][2].Seconds(), mostGrowth*times[i][0].Seconds(), q.name)
			}
		}
		b.ReportMetric(times[1][2].Seconds()/raw[2].Seconds(), "x-raw-audit-page")
		b.ReportMetric(times[6][2].Seconds()/raw[2].Seconds(), "x-raw-as-of-page")
	}
}

func round(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

// measure returns for each question and each log the time that a quarter of the answers took at most: what others do on
// the machine at the same time shows less there than in the median.
func measure(b *testing.B, logs []historyLog) [][]time.Duration {
	times := make([][][]time.Duration, len(questions))
	for i := range times {
		times[i] = make([][]time.Duration, len(logs))
	}
	for range historyRounds {
		for i, q := range questions {
			for j, l := range logs {
				began := time.Now()
				require.NoError(b, q.ask(b.Context(), l), q.name)
				times[i][j] = append(times[i][j], time.Since(began))
			}
		}
	}
	quarters := make([][]time.Duration, len(questions))
	for i := range times {
		for _, samples := range times[i] {
			slices.Sort(samples)
			quarters[i] = append(quarters[i], samples[len(samples)/4])
		}
	}
	return quarters
}

// historyLog is a log in which an account has its share.
type historyLog struct {
	store     *postgres.Store
	history   *projections.History
	account   uuid.UUID
	execution uuid.UUID // in the middle
	middle    projections.Position
}

func newHistoryLog(b *testing.B, events int) historyLog {
	ctx := context.Background()
	dsn := pgtest.Database(b)
	_, err := postgres.Migrate(ctx, dsn)
	require.NoError(b, err)
	store, err := postgres.Open(ctx, dsn, uuid.New(), slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	b.Cleanup(store.Close)
	l := historyLog{store: store, history: projections.NewHistory(store.Pool(), storetest.Codec(store), nil), account: uuid.New()}
	projectionstest.Fill(b, store.Pool(), projectionstest.Filling{
		Account: l.account, Share: historyShare, Function: uuid.New(), Events: events, Line: 100,
	})
	_, err = store.Pool().Exec(ctx, "vacuum events, streams")
	require.NoError(b, err)
	err = store.Pool().QueryRow(ctx, `select stream_id, position from events
		where account_id = $1 and type = 'execution.completed' and position > $2 order by position limit 1`, l.account, events/2).Scan(&l.execution, &l.middle)
	require.NoError(b, err)
	return l
}

func askRaw(ctx context.Context, l historyLog) error {
	rows, err := l.store.Pool().Query(ctx, "select "+postgres.EventColumns+
		" from events where account_id = $1 and position < $2 order by position desc limit $3", l.account, 1<<40, historyPage)
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, postgres.ScanEvent)
	return err
}

func askAudit(a projections.Audit) func(context.Context, historyLog) error {
	a.Limit = historyPage
	return func(ctx context.Context, l historyLog) error {
		_, err := l.history.Audit(ctx, l.account, a)
		return err
	}
}

func askMiddle(ctx context.Context, l historyLog) error {
	return askAudit(projections.Audit{After: l.middle})(ctx, l)
}

func askEvents(ctx context.Context, l historyLog) error {
	return askAudit(projections.Audit{Subject: l.execution, OldestFirst: true})(ctx, l)
}

func (l historyLog) asOf(ctx context.Context, read func(*projections.Queries) error) error {
	queries, _, err := l.history.AsOf(ctx, l.account, projections.Moment{Position: l.middle})
	if err != nil {
		return err
	}
	return read(queries)
}

func askExecution(ctx context.Context, l historyLog) error {
	return l.asOf(ctx, func(q *projections.Queries) error {
		_, err := q.Executions.Get(ctx, l.account, l.execution)
		return err
	})
}

func askExecutions(ctx context.Context, l historyLog) error {
	return l.asOf(ctx, func(q *projections.Queries) error {
		_, err := q.Executions.List(ctx, l.account, projections.ExecutionFilter{}, projections.PageRequest{Limit: historyPage})
		return err
	})
}

func askFunctions(ctx context.Context, l historyLog) error {
	return l.asOf(ctx, func(q *projections.Queries) error {
		_, err := q.Functions.List(ctx, l.account, projections.PageRequest{Limit: historyPage})
		return err
	})
}

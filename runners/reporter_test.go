package runners

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func TestLinesAreReportedAMomentAfterTheFirst(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
		emit(line("1"))
		emit(line("2"))
		log.awaitReport(t) // while the run goes on
		emit(line("3"))
		return done
	}), ExecutorConfig{})
	id := log.request(t, `{}`)
	e.Offer(log.waiting(id))
	require.Equal(t, done, log.awaitEnd(t, id))
	require.Equal(t, []report{{lines: []string{"1", "2"}}, {lines: []string{"3"}, end: done}}, log.reports)
}

func TestManyLinesAreReportedInBoundedBatchesInOrder(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	const count = 5000
	e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
		for i := range count {
			emit(line(fmt.Sprint(i)))
		}
		return done
	}), ExecutorConfig{})
	id := log.request(t, `{}`)
	e.Offer(log.waiting(id))
	log.awaitEnd(t, id)
	next := 0
	for _, r := range log.reports {
		require.LessOrEqual(t, len(r.lines), 2*maxBatchLines)
		for _, text := range r.lines {
			require.Equal(t, fmt.Sprint(next), text)
			next++
		}
	}
	require.Equal(t, count, next)
}

func TestAHandlerWaitsWhenItsLinesCannotBeRecorded(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	away := make(chan struct{})
	log.failing = func(int, domain.Event) error { <-away; return nil }
	emitted := make(chan int, 10*maxBatchLines)
	e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
		for i := range 10 * maxBatchLines {
			emit(line("x"))
			emitted <- i
		}
		return done
	}), ExecutorConfig{})
	id := log.request(t, `{}`)
	e.Offer(log.waiting(id))
	for range 2 * maxBatchLines {
		<-emitted // one batch is on its way, one waits
	}
	select {
	case i := <-emitted:
		require.FailNow(t, "the run should wait", "but it went on to line %d", i)
	case <-time.After(100 * time.Millisecond):
	}
	close(away)
	require.Equal(t, done, log.awaitEnd(t, id))
}

func TestAReportIsRepeatedUntilTheStoreIsBack(t *testing.T) {
	t.Parallel()
	log := newMemoryLog(function("nodejs", `x`))
	log.failing = func(attempt int, _ domain.Event) error {
		if attempt <= 4 {
			return errors.New("connection refused")
		}
		return nil
	}
	e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
		emit(line("kept"))
		return done
	}), ExecutorConfig{})
	id := log.request(t, `{}`)
	e.Offer(log.waiting(id))
	require.Equal(t, done, log.awaitEnd(t, id))
	require.Equal(t, []report{{lines: []string{"kept"}, end: done}}, log.reports)
	require.Equal(t, 5, log.attempts)
}

// The tests below live on synctest's clock: their minutes pass at once.

func TestAStoreThatIsAwayForLongCostsNoEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newMemoryLog(function("nodejs", `x`))
		back := time.Now().Add(time.Hour)
		log.failing = func(int, domain.Event) error {
			if time.Now().Before(back) {
				return errors.New("connection refused")
			}
			return nil
		}
		e := newTestExecutor(t, log, scripted(func(_ context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
			emit(line("kept"))
			return done
		}), ExecutorConfig{Slots: 1})
		id := log.request(t, `{}`)
		e.Offer(log.waiting(id))
		awaitIdle(t, e)
		require.WithinDuration(t, back, time.Now(), lastRetry)
		require.Equal(t, []report{{lines: []string{"kept"}, end: done}}, log.reports)
	})
}

func TestAnEndThatCannotBeRecordedBecomesAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newMemoryLog(function("nodejs", `x`))
		log.failing = refuseAllBut(unrecordable)
		var logged strings.Builder
		e := NewExecutor(log, scripted(func(context.Context, Invocation, func(domain.ExecutionLogLine)) domain.Event {
			return done
		}), ExecutorConfig{WorkerID: uuid.New(), Slots: 1, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		id := log.request(t, `{}`)
		e.Offer(log.waiting(id))
		require.NoError(t, e.Stop(within(t, 2*time.Hour)))
		require.Equal(t, []domain.Event{unrecordable}, log.ends(id))
		require.Equal(t, patientTries+1, log.attempts)
		require.Contains(t, logged.String(), id.String())
		require.Contains(t, logged.String(), "refused")
	})
}

func TestLinesThatCannotBeRecordedStopTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newMemoryLog(function("nodejs", `x`))
		log.failing = refuseAllBut(unrecordable)
		e := newTestExecutor(t, log, scripted(func(ctx context.Context, _ Invocation, emit func(domain.ExecutionLogLine)) domain.Event {
			for ctx.Err() == nil {
				emit(line("x"))
				time.Sleep(time.Millisecond)
			}
			return domain.ExecutionFailed{ErrorType: domain.ErrorWorkerStopped}
		}), ExecutorConfig{Slots: 1})
		id := log.request(t, `{}`)
		e.Offer(log.waiting(id))
		awaitIdle(t, e)
		require.Equal(t, []report{{end: unrecordable}}, log.reports)
	})
}

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// refuseAllBut makes a log refuse every other report for ever, as a Postgres does that cannot store what is in them.
func refuseAllBut(accepted domain.Event) func(int, domain.Event) error {
	return func(_ int, end domain.Event) error {
		if end != accepted {
			return errors.New("refused")
		}
		return nil
	}
}

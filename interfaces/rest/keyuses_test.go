package rest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/projections"
)

// useLog records uses as the journal would, slower or not at all if a test wants so.
type useLog struct {
	mu    sync.Mutex
	times map[uuid.UUID][]time.Time
	block chan struct{} // when not nil, recording waits for it or for the end of the context
	err   error
}

func (l *useLog) record(ctx context.Context, use commands.KeyUse) error {
	if l.block != nil {
		select {
		case <-l.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.times == nil {
		l.times = map[uuid.UUID][]time.Time{}
	}
	l.times[use.KeyID] = append(l.times[use.KeyID], use.At)
	return l.err
}

func startUses(l *useLog, now func() time.Time) *keyUses {
	return startKeyUses(l.record, now, slog.New(slog.DiscardHandler))
}

func TestAKeyThatIsUsedAllTheTimeIsNotedOnceAMinute(t *testing.T) {
	t.Parallel()
	var log useLog
	start := time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := start
	uses := startUses(&log, func() time.Time { mu.Lock(); defer mu.Unlock(); return clock })
	key, other := projections.Key{ID: uuid.New()}, projections.Key{ID: uuid.New()}
	for range 181 { // three minutes and a second
		uses.note(key, uuid.Nil)
		mu.Lock()
		clock = clock.Add(time.Second)
		mu.Unlock()
	}
	uses.note(other, uuid.Nil)
	uses.close()
	require.Equal(t, []time.Time{start, start.Add(time.Minute), start.Add(2 * time.Minute), start.Add(3 * time.Minute)}, log.times[key.ID])
	require.Len(t, log.times[other.ID], 1)
}

func TestAUseThatTheReadModelShowsIsNotNotedAgain(t *testing.T) {
	t.Parallel()
	var log useLog
	now := time.Now()
	lately, longAgo := now.Add(-59*time.Second), now.Add(-time.Minute)
	uses := startUses(&log, func() time.Time { return now })
	uses.note(projections.Key{ID: uuid.New(), LastUsed: &lately}, uuid.Nil)
	due := projections.Key{ID: uuid.New(), LastUsed: &longAgo}
	uses.note(due, uuid.Nil)
	uses.close()
	require.Len(t, log.times, 1)
	require.Len(t, log.times[due.ID], 1)
}

func TestNotingAUseNeverWaits(t *testing.T) {
	t.Parallel()
	log := useLog{block: make(chan struct{})}
	uses := startUses(&log, time.Now)
	for range 10 * keyUseQueue {
		uses.note(projections.Key{ID: uuid.New()}, uuid.Nil)
	}
	require.LessOrEqual(t, len(uses.noted), keyUseQueue+1, "what was left out is not remembered as noted")
	close(log.block)
	uses.close()
}

func TestClosingRecordsWhatIsQueued(t *testing.T) {
	t.Parallel()
	log := useLog{err: errors.New("the log is away")}
	uses := startUses(&log, time.Now)
	for range 100 {
		uses.note(projections.Key{ID: uuid.New()}, uuid.Nil)
	}
	uses.close()
	uses.close()
	uses.note(projections.Key{ID: uuid.New()}, uuid.Nil)
	require.Len(t, log.times, 100)
}

func TestClosingDoesNotWaitForALogThatIsAway(t *testing.T) {
	t.Parallel()
	log := useLog{block: make(chan struct{})}
	uses := startUses(&log, time.Now)
	for range 100 {
		uses.note(projections.Key{ID: uuid.New()}, uuid.Nil)
	}
	start := time.Now()
	uses.close()
	require.Less(t, time.Since(start), 2*keyUseWithin)
	require.Empty(t, log.times)
}

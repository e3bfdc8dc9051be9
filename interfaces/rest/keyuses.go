package rest

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/projections"
)

const (
	// keyUseEvery is how exact a key's last_used is: one event per key in this time, however often it is used.
	keyUseEvery = time.Minute

	keyUseQueue  = 256
	keyUseWithin = 2 * time.Second // what noting one use may take
)

// keyUses records when API keys are used, beside the requests that use them. When it cannot follow, a use is left out
// and the next one counts.
type keyUses struct {
	record func(ctx context.Context, use commands.KeyUse) error
	now    func() time.Time
	logger *slog.Logger

	mu     sync.Mutex
	noted  map[uuid.UUID]time.Time // uses of the last minute, which the read model may not show yet
	queue  chan commands.KeyUse
	closed bool

	stop    context.CancelFunc
	stopped chan struct{}
}

func startKeyUses(record func(context.Context, commands.KeyUse) error, now func() time.Time, logger *slog.Logger) *keyUses {
	ctx, stop := context.WithCancel(context.Background())
	u := &keyUses{
		record: record, now: now, logger: logger, noted: map[uuid.UUID]time.Time{},
		queue: make(chan commands.KeyUse, keyUseQueue), stop: stop, stopped: make(chan struct{}),
	}
	go u.run(ctx)
	return u
}

// note takes down that a key is used now, by a request. It never waits.
func (u *keyUses) note(key projections.Key, requestID uuid.UUID) {
	now := u.now()
	if key.LastUsed != nil && now.Sub(*key.LastUsed) < keyUseEvery {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || now.Sub(u.noted[key.ID]) < keyUseEvery {
		return
	}
	select {
	case u.queue <- commands.KeyUse{AccountID: key.AccountID, KeyID: key.ID, Prefix: key.Prefix, RequestID: requestID, At: now}:
		u.noted[key.ID] = now
	default:
	}
}

func (u *keyUses) run(ctx context.Context) {
	defer close(u.stopped)
	for use := range u.queue {
		if err := u.write(ctx, use); err != nil {
			u.logger.Warn("the use of an API key was not recorded", "key_id", use.KeyID, "error", err)
		}
		u.forget()
	}
}

func (u *keyUses) write(ctx context.Context, use commands.KeyUse) error {
	ctx, cancel := context.WithTimeout(ctx, keyUseWithin)
	defer cancel()
	return u.record(ctx, use)
}

// forget drops what is older than a minute, so that the map is never larger than the number of keys in use.
func (u *keyUses) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	for id, at := range u.noted {
		if now.Sub(at) >= keyUseEvery {
			delete(u.noted, id)
		}
	}
}

// close records what is queued, for keyUseWithin at most, and ends.
func (u *keyUses) close() {
	u.mu.Lock()
	if !u.closed {
		u.closed = true
		close(u.queue)
	}
	u.mu.Unlock()
	timer := time.AfterFunc(keyUseWithin, u.stop)
	defer timer.Stop()
	<-u.stopped
	u.stop()
}

package proof

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// headInterval is the least time between two heads: the proof is never much more than that behind the log, and costs
	// a busy log one transaction a second.
	headInterval = time.Second

	// retryInterval is when a keeper that failed looks again, unless something is appended before.
	retryInterval = 15 * time.Second
)

// Log is what a keeper follows; *postgres.Store is one.
type Log interface {
	Pool() *pgxpool.Pool
	// Subscribe returns a channel that holds a token whenever events may have been appended.
	Subscribe() (wake <-chan struct{}, cancel func())
}

// Keeper follows a log and keeps its proof: it extends the tree and signs heads, in the background. When several processes
// keep the proof of one log they take turns, and need the same key. A keeper signs nothing that contradicts what was
// signed before.
type Keeper struct {
	log     Log
	key     *Key
	witness Witness
	logger  *slog.Logger
	status  atomic.Pointer[Status]
	now     func() time.Time
	thinned time.Time // when the heads were thinned out

	startOnce, stopOnce sync.Once
	stopping            context.Context
	stop                context.CancelFunc
	stopped             chan struct{}
}

// Status is how the proof stands.
type Status struct {
	Size     int64     // how many events the newest head covers
	SignedAt time.Time // zero when nothing was signed yet
	Failing  bool      // the last head could not be signed; the log says why
	Broken   string    // what is not as it was signed, in words for a person; empty when nothing is known to be
	OtherKey string    // that the log is signed by another key, and what to do, in sentences; empty when it is not
}

// NewKeeper makes a keeper of a log that signs with key.
func NewKeeper(log Log, key *Key, witness Witness, logger *slog.Logger) *Keeper {
	k := &Keeper{log: log, key: key, witness: witness, logger: logger, now: time.Now, stopped: make(chan struct{})}
	k.stopping, k.stop = context.WithCancel(context.Background())
	k.status.Store(&Status{})
	return k
}

// Start begins to follow the log and returns at once. It may be called twice.
func (k *Keeper) Start() { k.startOnce.Do(func() { go k.run() }) }

// Stop returns when the keeper has stopped. What it has not signed yet is signed after the next start. It may be called
// twice, and without a Start.
func (k *Keeper) Stop() {
	k.stopOnce.Do(k.stop)
	k.startOnce.Do(func() { close(k.stopped) })
	<-k.stopped
}

// Status tells how the proof stands.
func (k *Keeper) Status() Status { return *k.status.Load() }

func (k *Keeper) run() {
	defer close(k.stopped)
	wake, cancel := k.log.Subscribe()
	defer cancel()
	for k.stopping.Err() == nil {
		began := time.Now()
		head, more, err := k.turn(k.stopping)
		if k.stopping.Err() != nil {
			return
		}
		k.note(head, err)
		k.sleep(time.Until(began.Add(headInterval)))
		if !more {
			k.await(wake, err != nil)
		}
	}
}

// await waits until something was appended. After a failure it does not wait for ever: nobody tells when what failed is
// well again.
func (k *Keeper) await(wake <-chan struct{}, failed bool) {
	var retry <-chan time.Time
	if failed {
		retry = time.After(retryInterval)
	}
	select {
	case <-wake:
	case <-retry:
	case <-k.stopping.Done():
	}
}

func (k *Keeper) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-k.stopping.Done():
	}
}

// note remembers how a turn ended, and logs a failure once.
func (k *Keeper) note(head Head, err error) {
	before := k.Status()
	now := Status{Size: head.Size, SignedAt: head.SignedAt}
	if err != nil {
		now = Status{Size: before.Size, SignedAt: before.SignedAt, Failing: true}
	}
	if IsBroken(err) {
		now.Broken = err.Error()
	}
	var other *OtherKey
	if errors.As(err, &other) {
		now.OtherKey = other.What
	}
	k.status.Store(&now)
	switch {
	case now.OtherKey != "" && before.OtherKey == "":
		k.logger.Error("this server signs nothing, because its proof key is not the one that signed the log", "why", now.OtherKey, "proof_key", k.key.Source)
	case now.Broken != "" && now.Broken != before.Broken:
		k.logger.Error("history is not what was signed, and no head is signed any more; voltrun audit verify tells more", "error", err)
	case now.Failing && !before.Failing:
		k.logger.Warn("no head could be signed; trying again", "error", err)
	}
}

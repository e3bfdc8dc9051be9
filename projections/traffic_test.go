package projections_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
	"github.com/voltrun/voltrun/projections/projectionstest"
)

const (
	trafficRate    = 300 // executions a second; each is requested, claimed and reported with two lines
	trafficWorkers = 32
	pastLines      = 40_000 // that a rebuild has to go through

	// seenWithin is how long a command waits for what it wrote to be seen; the API answers 503 after 2 s.
	seenWithin = 2 * time.Second
	// A rebuild may let projections fall behind, but no longer than this, and soon after the swap no more than that.
	recoverWithin = 10 * time.Second
	smallLag      = time.Second
)

// traffic is what accounts do all the time. It complains of everything that is not as it should be.
type traffic struct {
	fixture
	t        *testing.T
	owner    uuid.UUID
	function uuid.UUID
	stop     chan struct{}
	running  sync.WaitGroup

	executions, keys atomic.Int64
	slowest          atomic.Int64 // nanoseconds from a write to its being seen
}

func startTraffic(t *testing.T, f fixture) *traffic {
	tr := &traffic{fixture: f, t: t, stop: make(chan struct{})}
	tr.owner, tr.function = f.aLittleOfEverything(t)
	due := make(chan struct{}, trafficWorkers)
	tr.running.Go(func() { tr.pace(due) })
	for range trafficWorkers {
		tr.running.Go(func() {
			for range due {
				tr.execute()
			}
		})
	}
	tr.running.Go(tr.makeAndDeleteKeys)
	return tr
}

// pace hands out work at the rate, as far as it is taken.
func (tr *traffic) pace(due chan<- struct{}) {
	defer close(due)
	tick := time.NewTicker(time.Second / trafficRate)
	defer tick.Stop()
	for {
		select {
		case <-tr.stop:
			return
		case <-tick.C:
			select {
			case due <- struct{}{}:
			default: // this machine cannot do more
			}
		}
	}
}

func (tr *traffic) end() {
	close(tr.stop)
	tr.running.Wait()
}

// seen waits until a projection shows everything up to now.
func (tr *traffic) seen(projection string) bool {
	ctx, cancel := context.WithTimeout(tr.ctx, seenWithin)
	defer cancel()
	start := time.Now()
	head, err := tr.store.Head(ctx)
	if err == nil {
		err = tr.live.Wait(ctx, projection, head)
	}
	if took := int64(time.Since(start)); took > tr.slowest.Load() {
		tr.slowest.Store(took)
	}
	if err != nil {
		tr.t.Errorf("%s does not show a write within %s: %v", projection, seenWithin, err)
	}
	return err == nil
}

// execute lets an execution begin and end, and reads it after each.
func (tr *traffic) execute() {
	id, _, err := tr.RequestExecution.Handle(tr.ctx, system, domain.RequestExecution{AccountID: tr.owner, FunctionID: tr.function, Input: []byte("1")})
	if err != nil {
		tr.t.Errorf("request an execution: %v", err)
		return
	}
	tr.requireExecution(id, domain.ExecutionPending, "")
	attempt, err := tr.ClaimExecution.Handle(tr.ctx, id, uuid.New())
	if err != nil {
		tr.t.Errorf("claim an execution: %v", err)
		return
	}
	lines := []domain.ExecutionLogLine{{Stream: domain.Stdout, Text: "one", At: time.Now()}, {Stream: domain.Stdout, Text: "two", At: time.Now()}}
	if err := tr.ReportExecution.Handle(tr.ctx, attempt, lines, done("2")); err != nil {
		tr.t.Errorf("report an execution: %v", err)
		return
	}
	tr.requireExecution(id, domain.ExecutionSuccess, "one\ntwo\n")
	tr.executions.Add(1)
}

func (tr *traffic) requireExecution(id uuid.UUID, status domain.ExecutionStatus, logs string) {
	if !tr.seen("executions") {
		return
	}
	x, err := tr.Executions.Get(tr.ctx, tr.owner, id)
	if err != nil || x.Status != status || x.Logs != logs {
		tr.t.Errorf("a stale answer: execution %s is %q with the log %q, not %q with %q (%v)", id, x.Status, x.Logs, status, logs, err)
	}
}

// makeAndDeleteKeys looks for deleted keys as long as there is traffic: none may come back.
func (tr *traffic) makeAndDeleteKeys() {
	var deleted []commands.NewKey
	for {
		select {
		case <-tr.stop:
			return
		default:
		}
		key, err := tr.CreateKey.Handle(tr.ctx, system, tr.owner, "short-lived", nil)
		if err == nil && tr.seen("keys") {
			_, err = tr.Keys.Find(tr.ctx, key.Prefix, commands.HashKey(key.Key))
		}
		if err == nil {
			_, err = tr.DeleteKey.Handle(tr.ctx, system, domain.DeleteKey{KeyID: key.ID, AccountID: tr.owner})
		}
		if err != nil {
			tr.t.Errorf("make, find and delete a key: %v", err)
			return
		}
		if tr.seen("keys") {
			deleted = append(deleted, key)
		}
		for _, k := range deleted[max(0, len(deleted)-20):] {
			if _, err := tr.Keys.Find(tr.ctx, k.Prefix, commands.HashKey(k.Key)); !domain.IsCode(err, domain.Unauthorized) {
				tr.t.Errorf("the deleted key %s is back: %v", k.Prefix, err)
			}
		}
		tr.keys.Add(1)
	}
}

// lag is how long a projection needs to show what the log holds now.
func (tr *traffic) lag(projection string) time.Duration {
	start := time.Now()
	require.NoError(tr.t, tr.live.Wait(tr.ctx, projection, tr.head(tr.t)))
	return time.Since(start)
}

func TestARebuildWhileWritesFlowIsNoticedByNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, projections.All()...)
	f.say(t, slices.Repeat([]string{"a line from long ago"}, pastLines)...)
	tr := startTraffic(t, f)
	start := time.Now()
	for range 3 {
		for _, name := range f.rebuilder.Names() {
			require.NoError(t, f.rebuilder.Rebuild(f.ctx, name, nil), name)
			swapped := time.Now()
			for tr.lag(name) > smallLag {
				require.Less(t, time.Since(swapped), recoverWithin, "%s stays behind after the swap", name)
			}
		}
	}
	took := time.Since(start)
	tr.end()
	t.Logf("%.0f executions/s and %.0f keys/s during 12 rebuilds; the slowest write was seen after %s",
		float64(tr.executions.Load())/took.Seconds(), float64(tr.keys.Load())/took.Seconds(), time.Duration(tr.slowest.Load()))
	f.caughtUp(t)
	projectionstest.RequireEqualToRebuilt(t, f.store, f.codec)
	f.requireNoLeftovers(t)
}

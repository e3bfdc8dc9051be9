package projections

import (
	"math"
	"sync"
	"time"
)

// RebuildState says what a rebuild does, or how it ended.
type RebuildState string

// The states of a rebuild or verification, in order; the last three are its ends.
const (
	RebuildReading   RebuildState = "reading"   // folds the log into new tables
	RebuildIndexing  RebuildState = "indexing"  // makes their indexes
	RebuildSwapping  RebuildState = "swapping"  // folds what was appended meanwhile and puts them in the place of the old ones
	RebuildComparing RebuildState = "comparing" // verify only: hashes both sets of tables
	RebuildDone      RebuildState = "done"
	RebuildCancelled RebuildState = "cancelled"
	RebuildFailed    RebuildState = "failed"
)

// Progress is how far a rebuild is.
type Progress struct {
	Projection string       `json:"projection"`
	State      RebuildState `json:"state"`
	Done       Position     `json:"events_done"`
	Total      Position     `json:"events_total"` // grows while events are appended
	Rate       float64      `json:"events_per_second"`
	Left       float64      `json:"seconds_left"` // of reading
	StartedAt  time.Time    `json:"started_at"`
	EndedAt    *time.Time   `json:"ended_at,omitempty"`
	Error      string       `json:"error,omitempty"`
}

// Ended tells whether the rebuild is over.
func (p Progress) Ended() bool { return p.EndedAt != nil }

// reportEvery is how often a rebuild reports its progress, beside at every change of state.
const reportEvery = 200 * time.Millisecond

// tracker keeps the progress of a rebuild and reports it, one report at a time.
type tracker struct {
	report func(Progress)

	mu       sync.Mutex
	progress Progress
	stop     chan struct{}
	stopped  sync.WaitGroup
}

// track begins to report, until end is called. report may be nil.
func track(projection string, report func(Progress)) *tracker {
	if report == nil {
		report = func(Progress) {}
	}
	t := &tracker{report: report, stop: make(chan struct{})}
	t.progress = startProgress(projection)
	t.stopped.Go(t.run)
	return t
}

func startProgress(projection string) Progress {
	return Progress{Projection: projection, State: RebuildReading, StartedAt: time.Now().UTC()}
}

func (t *tracker) run() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		t.change(func(*Progress) {})
		select {
		case <-tick.C:
		case <-t.stop:
			return
		}
	}
}

// change changes the progress and reports it.
func (t *tracker) change(change func(*Progress)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.progress)
	t.report(t.progress)
}

func (t *tracker) enter(state RebuildState) {
	t.change(func(p *Progress) { p.State = state })
}

// aim says up to where the log is going to be read.
func (t *tracker) aim(total Position) {
	t.change(func(p *Progress) { p.Total = total })
}

// passed says up to where the log was read. The rate is that of reading from the beginning, the other states excepted.
func (t *tracker) passed(position Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.progress
	p.Done = position
	if p.State == RebuildReading {
		p.Rate = math.Round(float64(position) / max(time.Since(p.StartedAt).Seconds(), 1e-3))
		p.Left = math.Round(float64(max(0, p.Total-position)) / max(p.Rate, 1))
	}
}

// end reports how the rebuild ended.
func (t *tracker) end(state RebuildState, err error) {
	close(t.stop)
	t.stopped.Wait()
	t.change(func(p *Progress) {
		now := time.Now().UTC()
		p.State, p.EndedAt, p.Left = state, &now, 0
		if err != nil {
			p.Error = err.Error()
		}
	})
}

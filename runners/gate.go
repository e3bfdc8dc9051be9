package runners

import (
	"sync"
	"time"
)

// youth is how long a run counts as one that may be over at once.
const youth = 10 * time.Millisecond

// gate lets a few young runs at a time use the processors, in the order in which they come. Short runs share a few warm
// processes in turn, which is faster than many at once; what runs for longer waits for something else most of the time, and
// makes room for others.
type gate struct {
	limit int

	mu      sync.Mutex
	young   []*pass // oldest first; some of them are over
	inside  int     // those of them that are not
	waiting []chan struct{}
	aging   *time.Timer // set while somebody waits
}

type pass struct {
	began time.Time
	young bool
}

func newGate(limit int) *gate { return &gate{limit: limit} }

// enter waits for its turn, which comes soon.
func (g *gate) enter() *pass {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside >= g.limit {
		g.age()
	}
	if g.inside >= g.limit {
		turn := make(chan struct{})
		g.waiting = append(g.waiting, turn)
		g.watch()
		g.mu.Unlock()
		<-turn // with the room of who made it
		g.mu.Lock()
	} else {
		g.inside++
	}
	p := &pass{time.Now(), true}
	g.young = append(g.young, p)
	if len(g.waiting) > 0 {
		g.watch()
	}
	return p
}

// leave ends a run.
func (g *gate) leave(p *pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grow(p)
	for len(g.young) > 0 && !g.young[0].young {
		g.young = g.young[1:]
	}
}

// grow makes room, for the next when somebody waits.
func (g *gate) grow(p *pass) {
	if !p.young {
		return
	}
	p.young = false
	if len(g.waiting) == 0 {
		g.inside--
		return
	}
	close(g.waiting[0])
	g.waiting = g.waiting[1:]
}

// age lets runs grow up.
func (g *gate) age() {
	for len(g.young) > 0 && (!g.young[0].young || time.Since(g.young[0].began) >= youth) {
		g.grow(g.young[0])
		g.young = g.young[1:]
	}
}

// watch looks again when the oldest run grows up.
func (g *gate) watch() {
	if g.aging != nil || len(g.young) == 0 {
		return
	}
	g.aging = time.AfterFunc(time.Until(g.young[0].began.Add(youth)), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.aging = nil
		g.age()
		if len(g.waiting) > 0 {
			g.watch()
		}
	})
}

package runners

import (
	"context"
	"slices"
	"time"

	"github.com/voltrun/voltrun/domain"
)

// stock is the prewarmed interpreters of one shape.
type stock struct {
	runtime string // the word by which the interpreter was asked for
	stems   []*worker
	want    int
	keep    int // how many are wanted however long nobody needs one
}

// restockPause lets the invocation that took a stem have the processor first.
const restockPause = 10 * time.Millisecond

// stockDefaults wants a stem for each language's functions that ask for nothing special.
func (p *Pool) stockDefaults() {
	for _, word := range []string{"nodejs", "python"} {
		interpreter, err := p.config.Runtimes.lookup(word)
		if err != nil || len(p.stocks) >= p.config.Stems {
			continue
		}
		p.stocks[shape{interpreter, domain.DefaultMemoryMB, p.config.Egress}] = &stock{runtime: word, want: 1, keep: 1}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restock(0)
}

// popStem returns a stem, and sees to another one in its place. When there is none, there will be one more the next time.
// It is called with p.mu locked.
func (p *Pool) popStem(of shape, runtime string) *worker {
	s := p.stocks[of]
	if s == nil || len(s.stems) == 0 {
		p.wantMore(of, runtime)
		p.restock(restockPause)
		return nil
	}
	w := s.stems[len(s.stems)-1]
	p.removeStem(w)
	p.restock(restockPause)
	return w
}

// wantMore wants one more stem of a shape. When there are as many as may be, one that nobody has needed for the longest
// time makes room for it.
func (p *Pool) wantMore(of shape, runtime string) {
	if p.wanted() >= p.config.Stems && !p.forgetStem() {
		return
	}
	if p.stocks[of] == nil {
		p.stocks[of] = &stock{runtime: runtime}
	}
	p.stocks[of].want++
}

// forgetStem ends a stem for which no other one is to come.
func (p *Pool) forgetStem() bool {
	var oldest *worker
	for _, s := range p.stocks {
		if s.want > s.keep && len(s.stems) > 0 && (oldest == nil || s.stems[0].since.Before(oldest.since)) {
			oldest = s.stems[0]
		}
	}
	if oldest == nil {
		return false
	}
	p.wantLess(oldest)
	p.reaped++
	p.discard(oldest)
	return true
}

// wantLess takes a stem out of its stock for good.
func (p *Pool) wantLess(w *worker) {
	p.removeStem(w)
	s := p.stocks[w.shape]
	if s.want--; s.want == 0 {
		delete(p.stocks, w.shape)
	}
}

// wanted counts the stems that there should be.
func (p *Pool) wanted() (n int) {
	for _, s := range p.stocks {
		n += s.want
	}
	return n
}

func (p *Pool) removeStem(w *worker) {
	s := p.stocks[w.shape]
	s.stems = slices.DeleteFunc(s.stems, func(stem *worker) bool { return stem == w })
}

func (p *Pool) anyStem() *worker {
	for _, s := range p.stocks {
		if len(s.stems) > 0 {
			return s.stems[0]
		}
	}
	return nil
}

// restock starts the missing stems in the background, one after the other. It is called with p.mu locked.
func (p *Pool) restock(pause time.Duration) {
	if p.stocking || p.closed {
		return
	}
	p.stocking = true
	p.ending.Go(func() {
		for p.pause(pause) && p.addStem() {
		}
	})
}

func (p *Pool) pause(pause time.Duration) bool {
	select {
	case <-p.stop:
		return false
	case <-time.After(pause):
		return true
	}
}

// addStem starts one missing stem. It returns false when there was none missing, or it could not be started: then the next
// call that needs a stem tries again.
func (p *Pool) addStem() bool {
	w, runtime := p.reserveStem()
	if w == nil {
		return false
	}
	err := p.launch(context.Background(), w, runtime, preheated)
	if err == nil {
		err = w.boot()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stocks[w.shape]
	if err == nil && !p.closed && s == nil { // nobody wants it any more
		p.discard(w)
		return true
	}
	if err != nil || p.closed {
		p.stocking = false
		p.discard(w)
		if !p.closed {
			p.config.Logger.Error("an interpreter could not be prewarmed", "runtime", runtime, "error", err)
		}
		return false
	}
	usage := w.instance.Usage()
	p.account(w, usage.MemoryBytes)
	w.cpu = usage.CPU // of no invocation
	w.state, w.since = workerStem, time.Now()
	s.stems = append(s.stems, w)
	if len(s.stems) > s.keep {
		p.restAfter(w, p.config.IdleTimeout)
	}
	return true
}

// reserveStem makes a worker for a stem that is missing and for which there is room.
func (p *Pool) reserveStem() (*worker, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && len(p.workers) < p.config.MaxProcesses && p.memory+startMemory <= p.budget() {
		for shape, s := range p.stocks {
			if len(s.stems) < s.want {
				return p.newWorker(shape), s.runtime
			}
		}
	}
	p.stocking = false
	return nil, ""
}

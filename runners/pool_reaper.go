package runners

import "time"

// freezeAfter is how long a worker is idle before it is paused.
const freezeAfter = time.Second

// startMemory is what a process is taken to need until that is known, in bytes.
const startMemory = 24 << 20

// Everything in this file whose comment does not say otherwise is called with p.mu locked.

func (p *Pool) pushIdle(w *worker) {
	w.state, w.since = workerIdle, time.Now()
	w.next, p.idle[w.key] = p.idle[w.key], w
	pause := p.config.IdleTimeout
	if p.freezes {
		pause = min(pause, freezeAfter)
	}
	p.restAfter(w, pause)
}

func (p *Pool) popIdle(key workerKey) *worker {
	w := p.idle[key]
	if w != nil {
		p.removeIdle(w)
	}
	return w
}

func (p *Pool) removeIdle(w *worker) {
	w.rest.Stop()
	last := p.idle[w.key]
	switch {
	case last != w:
		for last.next != w {
			last = last.next
		}
		last.next = w.next
	case w.next == nil:
		delete(p.idle, w.key)
	default:
		p.idle[w.key] = w.next
	}
	w.next = nil
}

func (p *Pool) restAfter(w *worker, pause time.Duration) {
	if w.rest == nil {
		w.rest = time.AfterFunc(pause, func() { p.letRest(w) })
		return
	}
	w.rest.Reset(pause)
}

// letRest pauses a worker that is idle for a while, and ends it after a long while. It is called without p.mu.
func (p *Pool) letRest(w *worker) {
	if !p.reapIdle(w) {
		return
	}
	if p.freezes {
		p.freeze(w)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.state == workerIdle {
		p.restAfter(w, max(p.config.IdleTimeout-time.Since(w.since), freezeAfter))
	}
}

// freeze pauses a worker unless somebody took it meanwhile, who waits then until it can be thawed. It is called without
// p.mu.
func (p *Pool) freeze(w *worker) {
	w.resting.Lock()
	defer w.resting.Unlock()
	p.mu.Lock()
	idle := w.state == workerIdle
	p.mu.Unlock()
	if idle && !w.frozen {
		w.frozen = w.instance.Freeze(true) == nil
	}
}

// reapIdle ends a worker that has been idle for too long, and tells whether it still is idle. It is called without p.mu.
func (p *Pool) reapIdle(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	tooLong := time.Since(w.since) >= p.config.IdleTimeout
	switch {
	case w.state == workerIdle && tooLong:
		p.removeIdle(w)
	case w.state == workerStem && tooLong:
		p.wantLess(w)
	default:
		return w.state == workerIdle
	}
	p.reaped++
	p.discard(w)
	return false
}

// account notes what a worker takes.
func (p *Pool) account(w *worker, memory int64) {
	if memory <= 0 {
		memory = startMemory // the driver cannot tell
	}
	p.memory += memory - w.memory
	w.memory = memory
}

func (p *Pool) budget() int64 { return int64(p.config.MemoryBudgetMB) << 20 }

// makeRoom tells whether another process may be started, after it has ended idle ones that are in the way. Ending takes a
// moment, so it may say no although it has made room for later.
func (p *Pool) makeRoom() bool {
	for p.memory+startMemory > p.budget() && p.reapOldest() {
	}
	if len(p.workers) >= p.config.MaxProcesses {
		p.reapOldest()
		return false
	}
	return true
}

// reapOverBudget ends idle workers until the others fit into the budget.
func (p *Pool) reapOverBudget() {
	for p.memory > p.budget() && p.reapOldest() {
	}
}

// reapOldest ends the idle worker that was used longest ago or, when there is none, a stem.
func (p *Pool) reapOldest() bool {
	var oldest *worker
	for w := range p.workers {
		if w.state == workerIdle && (oldest == nil || w.since.Before(oldest.since)) {
			oldest = w
		}
	}
	if oldest != nil {
		p.removeIdle(oldest)
	} else if oldest = p.anyStem(); oldest == nil {
		return false
	} else {
		p.removeStem(oldest)
	}
	p.reaped++
	p.discard(oldest)
	return true
}

// discard ends a worker in the background. It belongs to nothing any more.
func (p *Pool) discard(w *worker) {
	if w.rest != nil {
		w.rest.Stop()
	}
	w.state = workerGone
	p.memory -= w.memory
	go func() {
		defer p.ending.Done()
		if err := w.close(); err != nil {
			p.config.Logger.Error("a function's process could not be cleaned up", "function", w.key.functionID, "error", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.workers, w)
		p.announceFreed()
	}()
}

// drop discards a busy worker. It is called without p.mu.
func (p *Pool) drop(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.discard(w)
}

// died discards a worker whose process ended while nobody used it. It is called without p.mu.
func (p *Pool) died(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch w.state {
	case workerIdle:
		p.removeIdle(w)
	case workerStem:
		p.removeStem(w)
	default:
		return // who uses it sees it
	}
	p.discard(w)
}

// announceFreed wakes those who wait for room.
func (p *Pool) announceFreed() {
	if p.freed != nil {
		close(p.freed)
		p.freed = nil
	}
}

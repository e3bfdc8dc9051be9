package runners

import "github.com/google/uuid"

// Retire ends the processes of a function once they are idle: it was changed or deleted.
func (p *Pool) Retire(functionID uuid.UUID) {
	p.retire(func(key workerKey) bool { return key.functionID == functionID })
}

// RetireAccount ends the processes of an account once they are idle: it was erased.
func (p *Pool) RetireAccount(accountID uuid.UUID) {
	p.retire(func(key workerKey) bool { return key.accountID == accountID })
}

func (p *Pool) retire(concerned func(workerKey) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.workers {
		switch {
		case w.state == workerBusy && concerned(w.key):
			w.retired = true
		case w.state == workerIdle && concerned(w.key):
			p.removeIdle(w)
			p.discard(w)
		}
	}
}

// Close ends every process and returns when nothing is left of them. What runs ends as a domain.ErrorWorkerStopped failure.
func (p *Pool) Close() error { return p.close() }

func (p *Pool) end() error {
	p.mu.Lock()
	p.closed = true
	close(p.stop)
	for w := range p.workers {
		switch {
		case w.state == workerIdle:
			p.removeIdle(w)
			p.discard(w)
		case w.state == workerStem:
			p.removeStem(w)
			p.discard(w)
		case w.state == workerBusy && w.launched:
			go w.stop(stoppedByServer)
		}
	}
	p.mu.Unlock()
	p.ending.Wait()
	return p.launcher.workspaces.close()
}

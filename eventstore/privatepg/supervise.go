package privatepg

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
	healthyAfter = time.Minute // a server that lived so long starts again without a delay
)

// supervise keeps Postgres alive until Stop, and then shuts it down. It owns the lock of the data folder.
func (s *Server) supervise(p *process) {
	defer close(s.ended)
	defer s.lock.Close()
	defer os.Remove(s.cluster.socketDir) // Postgres has emptied it; after a crash the next start does
	var delay time.Duration
	for p != nil {
		began := time.Now()
		select {
		case <-s.running.Done():
			s.stopErr = s.shutDown(p)
			return
		case <-p.exited:
		}
		if time.Since(began) > healthyAfter {
			delay = 0
		}
		p, delay = s.revive(p, delay)
	}
}

// revive starts Postgres again after it died, as often as it takes: VoltRun cannot do anything without it, and its reason
// may be somebody who is repairing the machine. It returns nil when Stop was called meanwhile.
func (s *Server) revive(dead *process, delay time.Duration) (*process, time.Duration) {
	s.logger.Error("Postgres ended unexpectedly and is started again", "pid", dead.pid(), "reason", dead.err, "log", s.cluster.logFile())
	for sleep(s.running, delay) == nil {
		delay = min(max(2*delay, firstBackoff), maxBackoff)
		p, err := s.boot(s.running)
		if err == nil {
			s.logger.Info("Postgres is up again", "pid", p.pid())
			return p, delay
		}
		if s.running.Err() == nil {
			s.logger.Error("Postgres could not be started again", "error", err, "next_attempt_in", delay)
		}
	}
	return nil, 0
}

// errStoppedHard says that Postgres was stopped without finishing its work on the data files.
var errStoppedHard = errors.New("Postgres did not shut down in time and was stopped the hard way; nothing is lost, the next start recovers")

// shutDown ends p and returns when it is gone: in order, but when that takes too long the hard way.
func (s *Server) shutDown(p *process) error {
	p.signal(syscall.SIGINT)
	if waitExit(s.patience, p, shutdownTimeout) {
		return nil
	}
	p.signal(syscall.SIGQUIT)
	if !waitExit(context.Background(), p, quitTimeout) {
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
	return errStoppedHard
}

// waitExit tells whether p ended before ctx did and within d.
func waitExit(ctx context.Context, p *process, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

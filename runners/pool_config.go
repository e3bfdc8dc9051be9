package runners

import (
	"log/slog"
	"time"

	"github.com/voltrun/voltrun/runners/sandbox"
)

// PoolConfig is how a pool works. What is zero gets its default.
type PoolConfig struct {
	Driver         sandbox.Driver // must be set; the pool does not close it
	Runtimes       *Runtimes      // must be set
	MaxProcesses   int            // how many may live at once: DefaultMaxProcesses
	MemoryBudgetMB int            // what idle processes are ended to stay below: DefaultMemoryBudgetMB
	IdleTimeout    time.Duration  // how long a process may be idle: DefaultIdleTimeout
	Stems          int            // how many prewarmed interpreters there may be: DefaultStems; none when negative
	Limits         sandbox.Limits // of each process, beside its memory: DefaultLimits
	Egress         bool           // whether functions that do not say what they may reach may reach the internet
	Logger         *slog.Logger   // slog.Default
}

// The defaults of a PoolConfig.
const (
	DefaultMaxProcesses   = 128 // each holds one of the host's 384 users, which several servers share
	DefaultMemoryBudgetMB = 2048
	DefaultIdleTimeout    = 10 * time.Minute
	DefaultStems          = 8
)

// DefaultLimits are what a process may take beside its memory.
var DefaultLimits = sandbox.Limits{TmpMB: 256, Processes: 256, OpenFiles: 1024, FileMB: 256}

func (c PoolConfig) withDefaults() PoolConfig {
	if c.MaxProcesses <= 0 {
		c.MaxProcesses = DefaultMaxProcesses
	}
	if c.MemoryBudgetMB <= 0 {
		c.MemoryBudgetMB = DefaultMemoryBudgetMB
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = DefaultIdleTimeout
	}
	if c.Stems == 0 {
		c.Stems = DefaultStems
	}
	if c.Limits == (sandbox.Limits{}) {
		c.Limits = DefaultLimits
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// PoolStats is what a pool does now, and has done since it was made.
type PoolStats struct {
	Busy       int   `json:"busy"`  // processes that run a handler, or start for one
	Warm       int   `json:"warm"`  // idle processes that have a function
	Stems      int   `json:"stems"` // prewarmed interpreters without one
	ColdStarts int64 `json:"cold_starts"`
	Reaped     int64 `json:"reaped"` // processes that were ended because they were idle
	MemoryMB   int   `json:"memory_mb"`
}

// Stats returns what the pool does now.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := PoolStats{ColdStarts: p.coldCalls, Reaped: p.reaped, MemoryMB: int(p.memory >> 20)}
	for w := range p.workers {
		switch w.state {
		case workerBusy:
			stats.Busy++
		case workerIdle:
			stats.Warm++
		case workerStem:
			stats.Stems++
		}
	}
	return stats
}

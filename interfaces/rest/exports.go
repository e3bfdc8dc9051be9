package rest

import (
	"sync"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// exportsAtOnce is how many exports of whole histories an account may have under way on a server. Each of them reads the log
// for as long as its client takes.
const exportsAtOnce = 2

// exports counts the exports that are under way.
type exports struct {
	mu      sync.Mutex
	running map[uuid.UUID]int // by account
}

// begin refuses one too many. Otherwise end must be called.
func (x *exports) begin(accountID uuid.UUID) (end func(), err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running[accountID] >= exportsAtOnce {
		return nil, domain.Errorf(domain.Busy, "%d exports of this account are under way already. Try again when one of them has ended.", exportsAtOnce)
	}
	x.running[accountID]++
	return func() { x.end(accountID) }, nil
}

func (x *exports) end(accountID uuid.UUID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running[accountID]--; x.running[accountID] == 0 {
		delete(x.running, accountID)
	}
}

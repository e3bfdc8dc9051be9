package commands

import (
	"sync"

	"github.com/google/uuid"
)

// flights are the requests that run in this process, one at a time for each id.
type flights struct {
	mu   sync.Mutex
	byID map[uuid.UUID]*flight
}

// flight is a request that runs. Others with its id wait for it.
type flight struct {
	landed chan struct{}
	kept   []byte // once it has landed: its sealed answer, nil when it has none that is final
}

// join returns the flight with an id, and whether it is the caller's own, who then has to land it.
func (f *flights) join(id uuid.UUID) (joined *flight, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if running, ok := f.byID[id]; ok {
		return running, false
	}
	if f.byID == nil {
		f.byID = map[uuid.UUID]*flight{}
	}
	f.byID[id] = &flight{landed: make(chan struct{})}
	return f.byID[id], true
}

func (f *flights) land(id uuid.UUID, landing *flight) {
	f.mu.Lock()
	delete(f.byID, id)
	f.mu.Unlock()
	close(landing.landed)
}

// tell opens the answer that counts, and leaves it for those who wait.
func (f *flight) tell(id identity, kept []byte, repeated bool) (answer []byte, known bool, err error) {
	f.kept = kept
	answer, err = id.open(kept)
	return answer, repeated, err
}

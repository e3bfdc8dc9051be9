package runners

import (
	"slices"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Waiting is an accepted execution that nobody has claimed.
type Waiting struct {
	ExecutionID uuid.UUID
	AccountID   uuid.UUID
	FunctionID  uuid.UUID
	Concurrency int   // of the function; 0 is no limit of its own
	Position    int64 // in the log, of its request

	// Attempt is the execution as its claim needs it, when that is known without a look into the log; else nil.
	Attempt *domain.Attempt
}

// turn is one who waits for a place: an accepted execution, or somebody who holds a request in hand.
type turn struct {
	lane     *lane
	accepted *Waiting
	granted  chan *Place // capacity 1; nil for an accepted execution
}

// lane is what waits to run of one function. The log holds it all; what is beyond the first maxTurns is only counted here.
type lane struct {
	tenant     *tenant
	functionID uuid.UUID
	limit      int // how many may run at once; 0 is no limit
	running    int
	turns      []*turn
	held       int  // of the turns, those that hold a request in hand
	ready      bool // stands in the tenant's list

	beyond  int   // how many wait in the log only, as far as is known
	after   int64 // they stand behind this position
	loading bool
}

// tenant is an account as the queue knows it: as long as something of it runs or waits.
type tenant struct {
	id      uuid.UUID
	lanes   map[uuid.UUID]*lane
	ready   []*lane // those that may have a turn, as far as they themselves are concerned, in the order of their turns
	running int
	waiting int // with what is beyond
	listed  bool
}

// How much of a lane is held in memory, and when more is fetched.
const (
	maxTurns    = 256
	refillBelow = maxTurns / 4
)

// queue decides whose turn it is: accounts take turns, and within an account its functions, whatever their backlogs are.
// It is the executor's, under its lock.
type queue struct {
	slots   int // how many may run at once
	spare   int // of them, for accounts of which nothing runs
	each    int // how many of one account may run at once
	tenants map[uuid.UUID]*tenant
	listed  []*tenant // those with a ready lane, in the order of their turns
	running int
}

func newQueue(slots, each int) *queue {
	return &queue{slots: slots, spare: slots / 4, each: min(each, slots), tenants: map[uuid.UUID]*tenant{}}
}

// laneOf returns the lane of a function, and notes its newest limit.
func (q *queue) laneOf(accountID, functionID uuid.UUID, limit int) *lane {
	t := q.tenants[accountID]
	if t == nil {
		t = &tenant{id: accountID, lanes: map[uuid.UUID]*lane{}}
		q.tenants[accountID] = t
	}
	l := t.lanes[functionID]
	if l == nil {
		l = &lane{tenant: t, functionID: functionID}
		t.lanes[functionID] = l
	}
	l.limit = limit
	return l
}

// push lets one more wait.
func (q *queue) push(t *turn) {
	t.lane.turns = append(t.lane.turns, t)
	t.lane.tenant.waiting++
	q.list(t.lane)
}

// list puts a lane and its tenant at the end of their lists, when they may have a turn and do not stand there yet.
func (q *queue) list(l *lane) {
	t := l.tenant
	if !l.ready && len(l.turns) > 0 && (l.limit == 0 || l.running < l.limit) {
		l.ready = true
		t.ready = append(t.ready, l)
	}
	if !t.listed && len(t.ready) > 0 && t.running < q.each {
		t.listed = true
		q.listed = append(q.listed, t)
	}
}

// admits tells whether a run of the account may begin. The spare slots are for those that have none yet, so that they do
// not wait until a run of somebody else is over.
func (q *queue) admits(t *tenant) bool {
	free := q.slots - q.running
	return t.running < q.each && (free > q.spare || free > 0 && t.running == 0)
}

// next takes the one whose turn it is, or nil when nobody may begin now.
func (q *queue) next() *turn {
	i := slices.IndexFunc(q.listed, q.admits)
	if i < 0 {
		return nil
	}
	t := q.listed[i]
	q.listed = slices.Delete(q.listed, i, i+1)
	t.listed = false
	l := t.ready[0]
	t.ready = t.ready[1:]
	l.ready = false
	next := l.turns[0]
	l.turns = l.turns[1:]
	t.waiting--
	return next
}

// begin counts a run.
func (q *queue) begin(l *lane) *Place {
	p := &Place{lane: l}
	l.running++
	l.tenant.running++
	q.running++
	q.list(l)
	return p
}

// end stops counting a run.
func (q *queue) end(p *Place) {
	p.lane.running--
	p.lane.tenant.running--
	q.running--
	q.list(p.lane)
	q.tidy(p.lane)
}

// leave takes out one who does not wait any more.
func (q *queue) leave(t *turn) {
	if i := slices.Index(t.lane.turns, t); i >= 0 {
		t.lane.turns = slices.Delete(t.lane.turns, i, i+1)
		t.lane.tenant.waiting--
		t.lane.held--
	}
	q.unlist(t.lane)
	q.tidy(t.lane)
}

// unlist takes a lane that has nobody left out of the lists.
func (q *queue) unlist(l *lane) {
	if !l.ready || len(l.turns) > 0 {
		return
	}
	l.ready = false
	l.tenant.ready = slices.DeleteFunc(l.tenant.ready, func(other *lane) bool { return other == l })
	if l.tenant.listed && len(l.tenant.ready) == 0 {
		l.tenant.listed = false
		q.listed = slices.DeleteFunc(q.listed, func(other *tenant) bool { return other == l.tenant })
	}
}

// tidy forgets a lane of which nothing runs and nothing waits.
func (q *queue) tidy(l *lane) {
	if l.running > 0 || len(l.turns) > 0 || l.beyond > 0 || l.loading {
		return
	}
	delete(l.tenant.lanes, l.functionID)
	if len(l.tenant.lanes) == 0 {
		delete(q.tenants, l.tenant.id)
	}
}

// waiting tells how many executions of an account wait.
func (q *queue) waiting(accountID uuid.UUID) int {
	if t := q.tenants[accountID]; t != nil {
		return t.waiting
	}
	return 0
}

// first returns the position before which nothing waits.
func (q *queue) first(seen int64) int64 {
	for _, t := range q.tenants {
		for _, l := range t.lanes {
			if l.beyond > 0 {
				seen = min(seen, l.after)
			}
			for _, turn := range l.turns {
				if turn.accepted != nil {
					seen = min(seen, turn.accepted.Position-1)
				}
			}
		}
	}
	return seen
}

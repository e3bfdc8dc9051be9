package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/voltrun/voltrun/eventstore"
)

//go:embed append.sql
var appendSQL string

const (
	// appendLock is the advisory lock that orders the batches of all processes on one database. The number is arbitrary;
	// it only has to be nobody else's ("voltrun\1").
	appendLock = 0x766f6c7472756e01

	// channel is what listeners are notified on, once a batch, with the new head.
	channel = "voltrun_events"

	queueLength    = 4096
	maxReconnectIn = time.Second
)

// request is one caller's append on its way through the writer.
type request struct {
	ctx    context.Context
	writes []eventstore.Write
	done   chan result // capacity 1: the writer never waits for a caller that has gone
}

type result struct {
	position eventstore.Position
	err      error
}

func (r *request) answer(position eventstore.Position, err error) { r.done <- result{position, err} }

// writer is the only one in this process that appends. It takes whatever waits, commits it as one batch, and collects
// the next batch while Postgres works on this one.
type writer struct {
	config    *pgx.ConnConfig
	committed func(pid uint32) // told after each batch, with the writer's backend
	logger    *slog.Logger

	queue    chan *request
	deferred []*request // kept for the next batch: an append to a stream that the current batch touches
	conn     *pgx.Conn

	closing sync.RWMutex // held for reading while a request is handed over
	closed  bool
	stopped chan struct{}
}

func startWriter(config *pgx.ConnConfig, committed func(pid uint32), logger *slog.Logger) *writer {
	w := &writer{
		config: config.Copy(), committed: committed, logger: logger,
		queue: make(chan *request, queueLength), stopped: make(chan struct{}),
	}
	// What was acknowledged must survive a crash, whatever the database's default is.
	w.config.RuntimeParams["synchronous_commit"] = "on"
	// Planning the statement takes longer than running it, and one plan fits every batch.
	w.config.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	w.config.RuntimeParams["application_name"] = "voltrun writer"
	go w.run()
	return w
}

func (w *writer) append(ctx context.Context, writes []eventstore.Write) (eventstore.Position, error) {
	r := &request{ctx: ctx, writes: writes, done: make(chan result, 1)}
	if err := w.enqueue(r); err != nil {
		return 0, err
	}
	select {
	case res := <-r.done:
		return res.position, res.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (w *writer) enqueue(r *request) error {
	w.closing.RLock()
	defer w.closing.RUnlock()
	if w.closed {
		return eventstore.ErrClosed
	}
	select {
	case w.queue <- r:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// stop lets the writer finish what it has accepted, and waits for that.
func (w *writer) stop() {
	w.closing.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.closing.Unlock()
	<-w.stopped
}

func (w *writer) run() {
	defer close(w.stopped)
	defer w.disconnect()
	for {
		b := w.collect()
		if len(b.requests) == 0 {
			return
		}
		w.commit(b)
	}
}

// collect waits for work and takes all there is. It comes back empty only when the writer was stopped and has nothing
// left to do.
func (w *writer) collect() *batch {
	b := newBatch()
	waiting := w.deferred
	w.deferred = nil
	for _, r := range waiting {
		w.place(b, r)
	}
	for len(b.requests) == 0 {
		r, open := <-w.queue
		if !open {
			return b
		}
		w.place(b, r)
	}
	for !b.full() {
		select {
		case r, open := <-w.queue:
			if !open {
				return b
			}
			w.place(b, r)
		default:
			return b
		}
	}
	return b
}

func (w *writer) place(b *batch, r *request) {
	switch {
	case r.ctx.Err() != nil:
		r.answer(0, r.ctx.Err())
	case b.full() || b.touches(r):
		b.block(r)
		w.deferred = append(w.deferred, r)
	default:
		b.add(r)
	}
}

// commit writes a batch and answers its requests. A batch whose outcome is not known, because the connection broke
// while Postgres worked on it, is looked up: what is in the log is answered, the rest goes into the next batch.
func (w *writer) commit(b *batch) {
	rows, err := w.execute(b)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		w.answer(b, rows)
		w.committed(w.conn.PgConn().PID())
	case errors.Is(err, eventstore.ErrClosed):
		b.answer(0, err)
	case errors.As(err, &refused) && !w.conn.IsClosed() && len(b.requests) > 1:
		w.commitOneByOne(b)
	case errors.As(err, &refused) && !w.conn.IsClosed():
		b.answer(0, fmt.Errorf("append to the log: %w", err))
	default:
		w.logger.Warn("the connection to the log broke; reconnecting", "error", err, "appends", len(b.requests))
		w.disconnect()
		w.settle(b)
	}
}

// commitOneByOne finds the request that Postgres refuses, so that it fails alone and not with its neighbours.
func (w *writer) commitOneByOne(b *batch) {
	for _, r := range b.requests {
		alone := newBatch()
		alone.add(r)
		w.commit(alone)
	}
}

// writeOutcome is a row of append.sql's answer.
type writeOutcome struct {
	Version  int
	Accepted bool
	Head     eventstore.Position
}

func (w *writer) execute(b *batch) ([]writeOutcome, error) {
	cols, err := b.columns()
	if err != nil {
		return nil, err
	}
	ctx := context.Background() // the batch belongs to many callers; none of them ends it for the others
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	var outcomes []writeOutcome
	var round pgx.Batch // sent with one Sync, so that it is one implicit transaction in one round trip
	round.Queue("select pg_advisory_xact_lock($1)", int64(appendLock))
	round.Queue(appendSQL, cols.args()...).Query(func(rows pgx.Rows) error {
		var err error
		outcomes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[writeOutcome])
		return err
	})
	round.Queue("select pg_notify($1, position::text) from head", channel)
	return outcomes, w.conn.SendBatch(ctx, &round).Close()
}

// answer tells every request of a committed batch how it ended. Accepted appends have consecutive positions in the
// order of the batch and end at the head.
func (w *writer) answer(b *batch, outcomes []writeOutcome) {
	position := firstPosition(b, outcomes)
	i := 0
	for _, r := range b.requests {
		mine := outcomes[i : i+len(r.writes)]
		i += len(r.writes)
		if !mine[0].Accepted {
			r.answer(0, conflict(r.writes, mine))
			continue
		}
		for _, write := range r.writes {
			position += eventstore.Position(len(write.Events))
		}
		r.answer(position, nil)
	}
}

// firstPosition is the head before the batch.
func firstPosition(b *batch, outcomes []writeOutcome) eventstore.Position {
	position := outcomes[0].Head
	i := 0
	for _, r := range b.requests {
		for _, write := range r.writes {
			if outcomes[i].Accepted {
				position -= eventstore.Position(len(write.Events))
			}
			i++
		}
	}
	return position
}

func conflict(writes []eventstore.Write, outcomes []writeOutcome) error {
	for i, o := range outcomes {
		if e := writes[i].Expected; e >= 0 && int(e) != o.Version {
			return &eventstore.VersionConflict{StreamID: writes[i].StreamID, Expected: e, Actual: o.Version}
		}
	}
	return errors.New("append to the log: refused without a conflict")
}

// settle answers the requests of a batch with an unknown outcome that are in the log after all, and defers the others
// to the next batch.
func (w *writer) settle(b *batch) {
	for _, r := range b.requests {
		position, err := w.lookUp(r)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			w.deferred = append(w.deferred, r)
		default:
			r.answer(position, err)
		}
	}
	w.committed(0)
}

// lookUp finds the position of a request's last event, or pgx.ErrNoRows. It outlasts broken connections.
func (w *writer) lookUp(r *request) (eventstore.Position, error) {
	for {
		position, err := w.tryLookUp(r)
		if err == nil || w.conn != nil && !w.conn.IsClosed() || errors.Is(err, eventstore.ErrClosed) {
			return position, err
		}
		w.disconnect()
	}
}

// tryLookUp looks under the append lock, so that a batch which Postgres is still committing is seen.
func (w *writer) tryLookUp(r *request) (position eventstore.Position, err error) {
	ctx := context.Background()
	if err := w.connect(ctx); err != nil {
		return 0, err
	}
	lastWrite := r.writes[len(r.writes)-1]
	lastEvent := lastWrite.Events[len(lastWrite.Events)-1]
	var round pgx.Batch
	round.Queue("select pg_advisory_xact_lock($1)", int64(appendLock))
	round.Queue("select position from events where stream_id = $1 and id = $2", lastWrite.StreamID, lastEvent.ID).
		QueryRow(func(row pgx.Row) error { return row.Scan(&position) })
	return position, w.conn.SendBatch(ctx, &round).Close()
}

// connect waits until there is a connection. The callers' contexts bound their own waiting; the writer itself gives up
// only when it was stopped.
func (w *writer) connect(ctx context.Context) error {
	for delay := 10 * time.Millisecond; w.conn == nil; delay = min(2*delay, maxReconnectIn) {
		conn, err := pgx.ConnectConfig(ctx, w.config)
		if err == nil {
			w.conn = conn
			return nil
		}
		if w.isClosed() {
			return fmt.Errorf("%w while the database could not be reached", eventstore.ErrClosed)
		}
		w.logger.Warn("the log cannot be reached; trying again", "error", err, "in", delay)
		time.Sleep(delay)
	}
	return nil
}

func (w *writer) isClosed() bool {
	w.closing.RLock()
	defer w.closing.RUnlock()
	return w.closed
}

func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	closeNow(w.conn)
	w.conn = nil
}

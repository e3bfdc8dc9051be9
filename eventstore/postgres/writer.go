package postgres

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

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

	writerName     = "voltrun writer"
	queueLength    = 4096
	maxReconnectIn = time.Second
	connectTimeout = 5 * time.Second

	// batchTimeout is when a batch is given up whose answer does not come, because the network swallows it: its outcome
	// is unknown then. No batch that Postgres works on takes nearly as long.
	batchTimeout = 30 * time.Second
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

// last names the append's last event and its stream.
func (r *request) last() (stream, event uuid.UUID) {
	for _, w := range slices.Backward(r.writes) {
		if n := len(w.Events); n > 0 {
			return w.StreamID, w.Events[n-1].ID
		}
	}
	return uuid.Nil, uuid.Nil // no append is without events
}

func (r *request) answer(position eventstore.Position, err error) { r.done <- result{position, err} }

// writer is the only one in this process that appends. It takes whatever waits, commits it as one batch, and collects
// the next batch while Postgres works on this one.
type writer struct {
	config    *pgx.ConnConfig
	committed func(pid uint32) // told after each batch, with the writer's backend
	logger    *slog.Logger

	partitionSize   int64
	partitionedUpto int64     // the first position without a partition, as far as is known; 0 when it is not
	partitionAgain  time.Time // when it is tried again to make one that is not urgent

	queue     chan *request
	deferred  []*request    // kept for the next batch: an append to a stream that the current batch touches
	timeout   time.Duration // batchTimeout, but for tests
	conn      *pgx.Conn
	head      eventstore.Position // after the last batch
	contended bool                // others have appended between the last two batches
	name      string              // of conn or the one before it; empty when there was none yet
	working   atomic.Int64        // since when the writer waits for Postgres, in Unix nanoseconds; 0 when it does not

	answering sync.WaitGroup

	stopOnce sync.Once
	stopping chan struct{} // closed when nothing new is taken
	stopped  chan struct{} // closed when everything that was taken is answered
}

func startWriter(config *pgx.ConnConfig, partitionSize int64, committed func(pid uint32), logger *slog.Logger) *writer {
	w := &writer{
		config: config.Copy(), committed: committed, logger: logger, timeout: batchTimeout, partitionSize: partitionSize,
		queue: make(chan *request, queueLength), stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	maps.Copy(w.config.RuntimeParams, map[string]string{
		// What was acknowledged must survive a crash, whatever the database's default is.
		"synchronous_commit": "on",
		// The snapshot of the appending statement has to be newer than the lock before it.
		"default_transaction_isolation": "read committed",
		// Planning the statement takes longer than running it, and one plan fits every batch.
		"plan_cache_mode": "force_generic_plan",
	})
	go w.run()
	return w
}

func (w *writer) append(ctx context.Context, writes []eventstore.Write) (eventstore.Position, error) {
	r := &request{ctx: ctx, writes: writes, done: make(chan result, 1)}
	select {
	case <-w.stopping:
		return 0, eventstore.ErrClosed
	default:
	}
	select {
	case w.queue <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-w.stopping:
		return 0, eventstore.ErrClosed
	}
	select {
	case res := <-r.done:
		return res.position, res.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-w.stopped:
		return r.answerOrClosed()
	}
}

// answerOrClosed is the answer of a request that came at the moment when the writer stopped.
func (r *request) answerOrClosed() (eventstore.Position, error) {
	select {
	case res := <-r.done:
		return res.position, res.err
	default:
		return 0, eventstore.ErrClosed
	}
}

// stop lets the writer finish what it has accepted, and waits for that.
func (w *writer) stop() {
	w.stopOnce.Do(func() { close(w.stopping) })
	<-w.stopped
}

func (w *writer) isStopping() bool {
	select {
	case <-w.stopping:
		return true
	default:
		return false
	}
}

// stuck tells how long the writer has been waiting for Postgres.
func (w *writer) stuck() time.Duration {
	since := w.working.Load()
	if since == 0 {
		return 0
	}
	return time.Since(time.Unix(0, since))
}

func (w *writer) run() {
	defer close(w.stopped)
	defer w.answering.Wait()
	defer w.disconnect()
	for {
		b := w.collect()
		if len(b.requests) == 0 {
			return
		}
		w.working.Store(time.Now().UnixNano())
		w.commit(b)
		w.working.Store(0)
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
		select {
		case r := <-w.queue:
			w.place(b, r)
		case <-w.stopping:
			w.takeWaiting(b)
			return b
		}
	}
	w.takeWaiting(b)
	return b
}

// takeWaiting adds what is in the queue now, as far as the batch has room.
func (w *writer) takeWaiting(b *batch) {
	for !b.full() {
		select {
		case r := <-w.queue:
			w.place(b, r)
		default:
			return
		}
	}
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
		w.noteHead(firstPosition(b, rows), rows[0].Head)
		w.answering.Go(func() { w.answer(b, rows) }) // which is not in the way of the next batch
		w.committed(w.conn.PgConn().PID())
		w.prepare(rows[0].Head)
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

// noteHead finds out whether others append too, from what has come between this batch and the one before it. A batch of
// which nothing was accepted tells nothing.
func (w *writer) noteHead(before, after eventstore.Position) {
	if after > 0 {
		w.contended = before != w.head
		w.head = after
	}
}

// prepare makes room in the log for what comes. When that fails there is room left for a while, and the next batch tries
// again.
func (w *writer) prepare(head eventstore.Position) {
	ctx, cancel := context.WithTimeout(context.Background(), w.timeout)
	defer cancel()
	if err := w.keepAhead(ctx, head); err != nil {
		w.logger.Error("no room could be made for what will be appended", "error", err)
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
	if err := w.connect(); err != nil {
		return nil, err
	}
	// The batch belongs to many callers; none of them ends it for the others. The time counts from here: an outage, which
	// connect sits out, may be longer.
	ctx, cancel := context.WithTimeout(context.Background(), w.timeout)
	defer cancel()
	return w.send(ctx, b)
}

// The statements of a batch, by the names under which the connection has them prepared.
const (
	lockStatement   = "lock"
	appendStatement = "append"
)

func (w *writer) prepareStatements(ctx context.Context) error {
	for name, sql := range map[string]string{
		lockStatement:   fmt.Sprintf("select pg_advisory_xact_lock(%d)", int64(appendLock)),
		appendStatement: appendSQL,
	} {
		if _, err := w.conn.Prepare(ctx, name, sql); err != nil {
			return fmt.Errorf("prepare the statements that append: %w", err)
		}
	}
	return nil
}

// binaryFormat is the format of all arguments, or of all results.
var binaryFormat = []int16{pgx.BinaryFormatCode}

// send runs the statements with one Sync, so that they are one implicit transaction: in one round trip while nobody else
// appends. Else the lock is awaited first, and what has come meanwhile joins the batch: a transaction takes the same part of
// everybody's time, however much is in it.
func (w *writer) send(ctx context.Context, b *batch) (outcomes []writeOutcome, err error) {
	trip := w.conn.PgConn().StartPipeline(ctx)
	defer func() { err = errors.Join(err, trip.Close()) }()
	trip.SendQueryPrepared(lockStatement, nil, nil, nil)
	if w.contended {
		trip.SendFlushRequest()
		if err := errors.Join(trip.Flush(), nextResult(trip, nil)); err != nil {
			return nil, err
		}
		w.takeWaiting(b)
	}
	cols, err := b.columns()
	if err != nil {
		return nil, err
	}
	trip.SendQueryPrepared(appendStatement, append(cols.args(), []byte(channel)), binaryFormat, binaryFormat)
	err = trip.Sync()
	if err == nil && !w.contended {
		err = nextResult(trip, nil)
	}
	if err == nil {
		err = nextResult(trip, func(row [][]byte) { outcomes = append(outcomes, parseOutcome(row)) })
	}
	return outcomes, err
}

// nextResult reads the result of the next statement of a round trip.
func nextResult(trip *pgconn.Pipeline, row func([][]byte)) error {
	result, err := trip.GetResults()
	if err != nil {
		return err
	}
	reader := result.(*pgconn.ResultReader)
	for reader.NextRow() {
		if row != nil {
			row(reader.Values())
		}
	}
	_, err = reader.Close()
	return err
}

func parseOutcome(values [][]byte) writeOutcome {
	row := rawRow{values: values}
	return writeOutcome{Version: row.integer(), Accepted: row.boolean(), Head: eventstore.Position(row.integer())}
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
// to the next batch, ahead of what was deferred already.
func (w *writer) settle(b *batch) {
	positions, err := w.lookUp(b)
	if err != nil {
		b.answer(0, err)
		return
	}
	var unwritten []*request
	for i, r := range b.requests {
		if position, written := positions[i+1]; written {
			r.answer(position, nil)
		} else {
			unwritten = append(unwritten, r)
		}
	}
	w.deferred = append(unwritten, w.deferred...)
	w.committed(0)
}

// lookUp finds the positions of the last events of a batch's requests that are in the log, by their place in the batch,
// from 1. It outlasts broken connections.
func (w *writer) lookUp(b *batch) (map[int]eventstore.Position, error) {
	for {
		positions, err := w.tryLookUp(b)
		if err == nil || w.conn != nil && !w.conn.IsClosed() || errors.Is(err, eventstore.ErrClosed) {
			return positions, err
		}
		w.disconnect()
	}
}

// tryLookUp looks under the append lock, so that a batch which Postgres is still committing is seen.
func (w *writer) tryLookUp(b *batch) (map[int]eventstore.Position, error) {
	var streams, ids []pgtype.UUID
	for _, r := range b.requests {
		stream, event := r.last()
		streams, ids = append(streams, pgUUID(stream)), append(ids, pgUUID(event))
	}
	if err := w.connect(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.timeout)
	defer cancel()
	positions := map[int]eventstore.Position{}
	var round pgx.Batch
	round.Queue("select pg_advisory_xact_lock($1)", int64(appendLock))
	round.Queue(`select r.n, e.position
		from unnest($1::uuid[], $2::uuid[]) with ordinality as r (stream_id, id, n) join events e using (stream_id, id)`,
		streams, ids).Query(func(rows pgx.Rows) error {
		var n int
		var position eventstore.Position
		_, err := pgx.ForEachRow(rows, []any{&n, &position}, func() error {
			positions[n] = position
			return nil
		})
		return err
	})
	return positions, w.conn.SendBatch(ctx, &round).Close()
}

// connect waits until there is a connection. The callers' contexts bound their own waiting; the writer itself gives up
// only when it was stopped.
func (w *writer) connect() error {
	for delay := 10 * time.Millisecond; w.conn == nil; delay = min(2*delay, maxReconnectIn) {
		err := w.tryConnect()
		if err == nil {
			return nil
		}
		if w.isStopping() {
			return fmt.Errorf("%w while the database could not be reached", eventstore.ErrClosed)
		}
		w.logger.Warn("the log cannot be reached; trying again", "error", err, "in", delay)
		time.Sleep(delay)
	}
	return nil
}

// tryConnect opens a connection, with room in the log for what comes, and ends the one before it on the server's side. That one may have a batch in its
// buffers that Postgres has not read yet; it must not be written after the writer has looked for it in vain. Each
// connection has a name of its own, which does not come again as a process id might.
func (w *writer) tryConnect() error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	name := writerName + " " + rand.Text()
	config := w.config.Copy()
	config.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	if err := terminate(ctx, conn, w.name); err != nil {
		closeNow(conn)
		return err
	}
	w.name, w.conn = name, conn
	if err := errors.Join(w.prepareStatements(ctx), w.keepAhead(ctx, 0)); err != nil {
		w.disconnect()
		return err
	}
	return nil
}

// terminate ends the connection of that name, if there is one, and waits until it is gone, which takes milliseconds.
// pg_terminate_backend could wait as well, but looks only every 100 ms.
func terminate(ctx context.Context, conn *pgx.Conn, name string) error {
	if name == "" {
		return nil
	}
	for {
		var left int
		err := conn.QueryRow(ctx, "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = $1", name).Scan(&left)
		if err != nil || left == 0 {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	closeNow(w.conn)
	w.conn = nil
}

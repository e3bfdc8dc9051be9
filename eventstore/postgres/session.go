package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/voltrun/voltrun/eventstore"
)

// fallbackInterval is how often an idle process looks whether a notification was lost. It is the guarantee behind
// NOTIFY, which is only a hint.
const fallbackInterval = 5 * time.Second

// session is the process's one long-lived connection. It listens for the appends of other processes, and it holds the
// process's lease: an advisory lock that Postgres gives back by itself when the process is gone, however it ended.
// A lease therefore costs no heartbeat.
type session struct {
	config    *pgx.ConnConfig
	processID uuid.UUID
	logger    *slog.Logger
	writerPID atomic.Uint32 // the backend whose notifications are our own, and already known

	mu      sync.Mutex
	wakeups map[chan struct{}]struct{}
	onErase []func(owner uuid.UUID)

	cancel  context.CancelFunc
	stopped chan struct{}
}

func startSession(ctx context.Context, config *pgx.ConnConfig, processID uuid.UUID, logger *slog.Logger) (*session, error) {
	s := &session{
		config: config.Copy(), processID: processID, logger: logger,
		wakeups: map[chan struct{}]struct{}{}, stopped: make(chan struct{}),
	}
	s.config.RuntimeParams["application_name"] = "voltrun session"
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go s.run(running, conn)
	return s, nil
}

func (s *session) stop() {
	s.cancel()
	<-s.stopped
}

// Subscribe returns a channel that holds a token whenever events may have been appended since the token was last
// taken: the token stays, so that an append between a look at the log and the wait is not missed. cancel ends it.
func (s *Store) Subscribe() (wake <-chan struct{}, cancel func()) { return s.session.subscribe() }

func (s *session) subscribe() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeups[c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.wakeups, c)
	}
}

// committed is told of every batch of this process's own writer.
func (s *session) committed(writerPID uint32) {
	s.writerPID.Store(writerPID)
	s.wakeAll()
}

func (s *session) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.wakeups {
		select {
		case c <- struct{}{}:
		default: // there is a token already
		}
	}
}

// erasedChannel is what listeners are notified on when an owner's secrets were erased, with the owner.
const erasedChannel = "voltrun_erased"

// OnErase has tell called whenever the secrets of an owner were erased, by this process or another, mostly within
// milliseconds. It is a hint: while the session is broken it is not heard. tell must not wait for anything.
func (s *Store) OnErase(tell func(owner uuid.UUID)) {
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	s.session.onErase = append(s.session.onErase, tell)
}

func (s *session) erased(n *pgconn.Notification) {
	owner, err := uuid.Parse(n.Payload)
	if err != nil {
		return // another version's notification
	}
	s.mu.Lock()
	listeners := s.onErase
	s.mu.Unlock()
	for _, tell := range listeners {
		tell(owner)
	}
}

func (s *session) run(ctx context.Context, conn *pgx.Conn) {
	defer close(s.stopped)
	for {
		err := s.listen(ctx, conn)
		closeNow(conn)
		if ctx.Err() != nil {
			return
		}
		s.logger.Warn("the session with the log broke; reconnecting", "error", err)
		if conn = s.reconnect(ctx); conn == nil {
			return
		}
		s.wakeAll() // whatever was notified in between is lost
	}
}

// listen wakes everybody when another process appends, until the connection breaks or ctx ends.
func (s *session) listen(ctx context.Context, conn *pgx.Conn) error {
	known, err := readHead(ctx, conn)
	for err == nil {
		waiting, cancel := context.WithTimeout(ctx, fallbackInterval)
		notification, waitErr := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case waitErr == nil:
			known = s.notified(notification, known)
		case pgconn.Timeout(waitErr):
			known, err = s.checkHead(ctx, conn, known)
		default:
			return waitErr
		}
	}
	return err
}

// notified wakes everybody for an append of another process, and returns the head that the notification tells.
func (s *session) notified(n *pgconn.Notification, known eventstore.Position) eventstore.Position {
	if n.Channel == erasedChannel {
		s.erased(n)
		return known
	}
	if n.PID != s.writerPID.Load() {
		s.wakeAll()
	}
	if head, err := strconv.ParseInt(n.Payload, 10, 64); err == nil {
		return eventstore.Position(head)
	}
	return known // another version's notification; the fallback finds out
}

// checkHead wakes everybody when the log has grown without a notification.
func (s *session) checkHead(ctx context.Context, conn *pgx.Conn, known eventstore.Position) (eventstore.Position, error) {
	head, err := readHead(ctx, conn)
	if err == nil && head != known {
		s.wakeAll()
	}
	return head, err
}

func readHead(ctx context.Context, conn *pgx.Conn) (head eventstore.Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err = conn.QueryRow(ctx, "select position from head").Scan(&head)
	return head, err
}

// connect opens the connection and takes the lease. The lock is a shared one, so that the process does not wait for its
// own lease when Postgres has not noticed yet that the connection before is gone.
func (s *session) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return nil, err
	}
	_, listenErr := conn.Exec(ctx, "listen "+channel+"; listen "+erasedChannel)
	_, lockErr := conn.Exec(ctx, "select pg_advisory_lock_shared($1)", leaseKey(s.processID))
	if err := errors.Join(listenErr, lockErr); err != nil {
		closeNow(conn)
		return nil, err
	}
	return conn, nil
}

func (s *session) reconnect(ctx context.Context) *pgx.Conn {
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, maxReconnectIn) {
		conn, err := s.connect(ctx)
		if err == nil {
			return conn
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

// Alive tells whether a process holds its lease: whether it is connected to this database now. A process that lives may
// seem gone for the moment that it needs to reconnect after the database was restarted.
func (s *Store) Alive(ctx context.Context, processID uuid.UUID) (bool, error) {
	key := uint64(leaseKey(processID))
	var alive bool
	err := s.pool.QueryRow(ctx, `
		select exists (select from pg_locks
			where locktype = 'advisory' and objsubid = 1 and granted and classid = $1 and objid = $2
			  and database = (select oid from pg_database where datname = current_database()))`,
		uint32(key>>32), uint32(key)).Scan(&alive)
	if err != nil {
		return false, fmt.Errorf("look up the lease of process %s: %w", processID, err)
	}
	return alive, nil
}

// leaseKey is the process's advisory lock: the half of its id that is random in every version of UUIDs.
func leaseKey(processID uuid.UUID) int64 { return int64(binary.BigEndian.Uint64(processID[8:])) }

func closeNow(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // broken, or no longer wanted
}

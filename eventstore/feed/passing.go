package feed

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/voltrun/voltrun/eventstore"
)

// Passing tells whether an error is one that goes away by itself: the connection broke, the server is stopping, a lock
// or a serialization failed, the caller has stopped, or a master key is on another server and not here yet. Handling the same
// events again, here or there, may succeed then.
func Passing(err error) bool {
	for _, passing := range []error{
		context.Canceled, context.DeadlineExceeded, sql.ErrTxDone, sql.ErrConnDone, driver.ErrBadConn,
		pgconn.ErrConnClosed, io.EOF, io.ErrUnexpectedEOF, eventstore.ErrClosed,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	var netErr net.Error
	var connectErr *pgconn.ConnectError
	var pgErr *pgconn.PgError
	var noKey *eventstore.NoMasterKeyError
	return errors.As(err, &noKey) || errors.As(err, &netErr) || errors.As(err, &connectErr) || errors.As(err, &pgErr) && passingState(pgErr.Code)
}

// passingState looks at an SQLSTATE.
func passingState(code string) bool {
	switch code {
	case "55P03", // lock_not_available
		"25P03", // idle_in_transaction_session_timeout
		"25P04": // transaction_timeout
		return true
	}
	switch code[:min(2, len(code))] {
	case "08", // connection exception
		"40", // transaction rollback: serialization failure, deadlock
		"53", // insufficient resources: too many connections, disk full
		"57": // operator intervention: shutdown, crash recovery, cancelled
		return true
	}
	return false
}

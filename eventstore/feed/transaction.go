package feed

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

type transactionKey struct{}

// transactionOf is the transaction in which a message is delivered, nil when it does not come from this package.
func transactionOf(ctx context.Context) *transaction {
	t, _ := ctx.Value(transactionKey{}).(*transaction)
	return t
}

// transaction is one transaction of watermill-sql's loop: it locks the checkpoint, lets the handlers work, moves the
// checkpoint and commits.
type transaction struct {
	conn *sql.Conn
	tx   *sql.Tx

	mu    sync.Mutex
	cause error
}

// abort gives the transaction up. When its message is acked afterwards, the loop finds the transaction gone and reads
// again; a nack would send the message again within the transaction, which is of no use when that is broken.
func (t *transaction) abort(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cause = cause
	_ = t.tx.Rollback() // when that fails, the connection is broken and Postgres rolls back by itself
}

// aborted is why the transaction was given up, or nil.
func (t *transaction) aborted() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cause
}

// native lets use work on the transaction's connection with all that pgx can do. The transaction cannot end meanwhile.
//
// Errors and panics pass around database/sql: it would close the connection because of them, and for that wait for the
// end of the transaction, which waits for the handler that is standing here.
func (t *transaction) native(use func(conn *pgx.Conn) error) error {
	var useErr error
	err := t.conn.Raw(func(driverConn any) error {
		defer func() {
			if v := recover(); v != nil {
				useErr = middleware.RecoveredPanicError{V: v, Stacktrace: string(debug.Stack())}
			}
		}()
		conn := driverConn.(*stdlib.Conn).Conn()
		if conn.PgConn().TxStatus() == 'I' { // over: statements would commit one by one
			useErr = sql.ErrTxDone
			return nil
		}
		useErr = use(conn)
		return nil
	})
	if err != nil {
		return fmt.Errorf("use the connection of the transaction: %w", err)
	}
	return useErr
}

package feed_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/feed"
)

func TestPassingTellsWhatGoesAwayByItself(t *testing.T) {
	t.Parallel()
	_, cannotConnect := pgx.Connect(context.Background(), "host=/nowhere")
	for _, err := range []error{
		context.Canceled, context.DeadlineExceeded, sql.ErrTxDone, sql.ErrConnDone, pgconn.ErrConnClosed, cannotConnect,
		io.ErrUnexpectedEOF, &net.OpError{Op: "read", Err: io.EOF}, eventstore.ErrClosed,
		state("57P01"), state("08006"), state("40001"), state("40P01"), state("53300"), state("55P03"), state("25P03"),
	} {
		require.True(t, feed.Passing(err), "%v", err)
		require.True(t, feed.Passing(fmt.Errorf("read the page: %w", err)), "%v", err)
	}
	for _, err := range []error{errors.New("bad"), state("23505"), state("25P02"), state("42P01"), state(""), pgx.ErrNoRows} {
		require.False(t, feed.Passing(err), "%v", err)
	}
	require.False(t, feed.Passing(nil))
}

func state(code string) error { return &pgconn.PgError{Code: code} }

package privatepg

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestAttachLeadsToTheServerOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	_, running, err := Attach(t.Context(), dir)
	require.NoError(t, err)
	require.False(t, running, "there is nothing yet")
	_, running, err = Attach(t.Context(), dir+"/absent")
	require.NoError(t, err)
	require.False(t, running)

	h := startHelper(t, dir, 0)
	dsn, running, err := Attach(t.Context(), dir)
	require.NoError(t, err)
	require.True(t, running)
	require.Equal(t, h.DSN, dsn)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	h.stop(t)
	_, running, err = Attach(t.Context(), dir)
	require.NoError(t, err)
	require.False(t, running)
}

func TestAttachWaitsForAServerThatIsStarting(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	h := launchHelper(t, dir, 0)
	require.Eventually(t, func() bool {
		held, err := lockIsHeld(lockPath(dir))
		return err == nil && held
	}, 30*time.Second, time.Millisecond)
	dsn, running, err := Attach(t.Context(), dir)
	require.NoError(t, err)
	require.True(t, running)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	h.kill(t)
}

func TestAttachIsNotMisledByWhatAKilledServerLeft(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	h := startHelper(t, dir, 0)
	h.kill(t)
	require.Eventually(t, func() bool {
		_, running, err := Attach(context.Background(), dir)
		return err == nil && !running
	}, 10*time.Second, 10*time.Millisecond)
}

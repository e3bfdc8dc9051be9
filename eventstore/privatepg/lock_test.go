package privatepg

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

const command = "voltrun projections verify"

func TestAStartWaitsForACommandAndSaysForWhich(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	h := startHelper(t, dir, 0, commandVariable+"="+command)
	require.Empty(t, h.Error)
	holder := Holder{PID: h.cmd.Process.Pid, Command: command}
	require.Regexp(t, command+` \(process \d+\)`, holder.String())
	_, running, err := Attach(t.Context(), dir)
	require.NoError(t, err)
	require.False(t, running, "a command takes its Postgres along when it ends")

	waiting, started := make(chan Holder), make(chan *Server)
	go func() { started <- start(t, Config{DataDir: dir, Waiting: func(h Holder) { waiting <- h }}) }()
	require.Equal(t, holder, <-waiting)
	select {
	case <-started:
		t.Fatal("two have the data folder")
	default:
	}
	h.stop(t)
	require.Equal(t, "1", query(t, (<-started).DSN(), "select 1"))
}

func TestWaitingForACommandEndsWithTheContext(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	h := startHelper(t, dir, 0, commandVariable+"="+command)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Start(ctx, Config{DataDir: dir, Waiting: func(Holder) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, command)
	require.Equal(t, "1", query(t, h.DSN, "select 1"))
}

package archive

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
)

func TestTheLogItselfSaysWhatWasMoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t, partition)
	keeps, account := f.register(t, 90), f.register(t, 0)
	f.fill(t, 2500, keeps, account)
	moved := NewMoved(f.store, f.codec)
	covered := func() (n int) {
		for _, e := range f.events(t) {
			ok, err := moved.Covers(t.Context(), e.Position, e.Type, e.AccountID)
			require.NoError(t, err)
			require.Equal(t, e.Data == nil, ok, "event %d", e.Position)
			if ok {
				n++
			}
		}
		return n
	}
	require.Zero(t, covered())
	require.NoError(t, f.archiver(31, month).Run(t.Context(), ignore))
	require.Positive(t, covered(), "it sees what has come since")

	_, err := f.store.Pool().Exec(t.Context(), `insert into archives (file, from_position, to_position, complete, fact)
		values ('forged', 2001, 2500, true, '{"from":2001,"to":2500,"types":["execution.log_line"]}')`)
	require.NoError(t, err)
	last := f.events(t)[2490]
	ok, err := NewMoved(f.store, f.codec).Covers(t.Context(), last.Position, lines, account)
	require.NoError(t, err)
	require.False(t, ok, "a row is no fact")
	require.Equal(t, eventstore.Position(2491), last.Position)
}

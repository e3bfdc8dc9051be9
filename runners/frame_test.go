package runners

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func framed(kind frameKind, by token, payload string) string {
	return string(appendFrame(nil, kind, by, len(payload))) + payload
}

func TestFramesCarryAnyBytes(t *testing.T) {
	t.Parallel()
	mine := token{1, 2, 3}
	large := strings.Repeat("\x00\n\xff", domain.MaxOutputBytes/3)
	r := newFrameReader(strings.NewReader(framed(frameReady, mine, "") + framed(frameStdout, mine, "a\x00\n") +
		framed(frameStderr, mine, large[:maxPrintBytes]) + framed(frameOutput, mine, "+"+large) + framed(frameError, mine, "-")))
	for _, want := range []frame{
		{kind: frameReady}, {kind: frameStdout, payload: []byte("a\x00\n")}, {kind: frameStderr, payload: []byte(large[:maxPrintBytes])},
		{kind: frameOutput, clean: true, payload: []byte(large)}, {kind: frameError, payload: []byte{}},
	} {
		got, err := r.next(mine)
		require.NoError(t, err)
		require.Equal(t, want.kind, got.kind)
		require.Equal(t, want.clean, got.clean)
		require.True(t, bytes.Equal(want.payload, got.payload))
	}
	_, err := r.next(mine)
	require.ErrorIs(t, err, errNoAnswer)
}

func TestWhatIsNoFrameOfTheInvocationIsRefused(t *testing.T) {
	t.Parallel()
	mine, other := token{1}, token{2}
	for name, c := range map[string]struct {
		data string
		want error
	}{
		"text":              {"garbage that is long enough for a head", errForeignAnswer},
		"nothing":           {"", errNoAnswer},
		"half a head":       {"\x00\x00\x00\x11O", errNoAnswer},
		"another's":         {framed(frameOutput, other, "+1"), errForeignAnswer},
		"unknown kind":      {framed('?', mine, "+1"), errForeignAnswer},
		"a request":         {framed(frameInvoke, mine, "{}"), errForeignAnswer},
		"no state":          {framed(frameOutput, mine, ""), errForeignAnswer},
		"ready with more":   {framed(frameReady, mine, "x"), errForeignAnswer},
		"shorter than head": {"\x00\x00\x00\x01O" + string(mine[:]), errForeignAnswer},
		"half a payload":    {framed(frameOutput, mine, "+123")[:frameHead+2], errNoAnswer},
		"half a large one":  {framed(frameOutput, mine, "+"+strings.Repeat("1", 1<<20))[:1<<19], errNoAnswer},
		"half a print":      {framed(frameStdout, mine, "text")[:frameHead+2], errNoAnswer},
		"large print":       {framed(frameStdout, mine, strings.Repeat("x", maxPrintBytes+1)), errForeignAnswer},
		"too long":          {string(appendFrame(nil, frameOutput, mine, domain.MaxOutputBytes+2)), errLongAnswer},
		"far too long":      {string(appendFrame(nil, frameOutput, mine, 1<<31)), errLongAnswer},
	} {
		_, err := newFrameReader(strings.NewReader(c.data)).next(mine)
		require.ErrorIs(t, err, c.want, name)
	}
}

package transfer_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/transfer"
)

// An export that was altered anywhere, by accident or on purpose, changes nothing.
func TestAnAlteredExportIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 1000), newInstance(t, 2, 1000)
	ada := from.live(t, "ada@example.com", 2)
	whole, _ := from.exportLog(t)
	for kind, file := range map[string][]byte{"a log": whole, "an account": from.exportAccount(t, ada.account, false)} {
		for name, altered := range alterations(t, file) {
			_, err := to.take(altered)
			require.Error(t, err, "%s, %s", kind, name)
			require.Empty(t, to.events(t), "%s, %s", kind, name)
		}
		var secrets int
		require.NoError(t, to.store.Pool().QueryRow(t.Context(), "select count(*) from vault").Scan(&secrets))
		require.Zero(t, secrets, kind)
	}
	_, err := to.take(whole)
	require.NoError(t, err, "there is room for the true one")
}

// Such as a download that broke.
func TestAFileThatEndsInTheMiddleIsSaidToDoSo(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 1000), newInstance(t, 2, 1000)
	ada := from.live(t, "ada@example.com", 20)
	whole, _ := from.exportLog(t)
	for kind, file := range map[string][]byte{"a log": whole, "an account": from.exportAccount(t, ada.account, false)} {
		for _, part := range []int{5, 9} {
			_, err := to.take(file[:len(file)*part/10])
			require.Regexp(t, `^nothing was imported: the file ends in the middle \(line \d\d+\); get it again$`, err.Error(), kind)
		}
	}
}

// alterations are wrong forms of a file, by what was done to it.
func alterations(t *testing.T, file []byte) map[string][]byte {
	t.Helper()
	altered := map[string][]byte{"nothing left": nil, "another file": []byte("hello"), "something behind": append(slices.Clone(file), pack(t, "{}\n")...)}
	for n := range 12 {
		altered[fmt.Sprintf("cut to %d/12", n)] = file[:len(file)*n/12]
	}
	text := unpack(t, file)
	lines := slices.Collect(strings.Lines(text))
	join := func(lines ...[]string) []byte { return pack(t, strings.Join(slices.Concat(lines...), "")) }
	altered["more in the last line"] = pack(t, strings.TrimSuffix(text, "\n")+lines[len(lines)-1])
	for n := range lines {
		altered[fmt.Sprintf("without line %d", n)] = join(lines[:n], lines[n+1:])
		altered[fmt.Sprintf("line %d twice", n)] = join(lines[:n+1], lines[n:])
		at := rand.IntN(len(lines[n]) - 1)
		line := lines[n][:at] + string(lines[n][at]^1) + lines[n][at+1:]
		altered[fmt.Sprintf("byte %d of line %d: %q", at, n, line[max(0, at-10):min(len(line), at+10)])] = join(lines[:n], []string{line}, lines[n+1:])
	}
	for n := range len(lines) - 1 {
		altered[fmt.Sprintf("lines %d and %d swapped", n, n+1)] = join(lines[:n], []string{lines[n+1], lines[n]}, lines[n+2:])
	}
	return altered
}

func pack(t *testing.T, text string) []byte {
	t.Helper()
	var file bytes.Buffer
	w := gzip.NewWriter(&file)
	_, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return file.Bytes()
}

func unpack(t *testing.T, file []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(file))
	require.NoError(t, err)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(text)
}

// The log itself may have been altered before it was exported, by somebody who owns the database.
func TestALogWhoseEventsDoNotSayWhatTheyWereCommittedToIsNotImported(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 1000), newInstance(t, 2, 1000)
	ada := from.live(t, "ada@example.com", 1)
	victim := from.events(t)[3]
	data, _ := eventstore.Plain([]byte("{}"))
	_, err := from.store.Pool().Exec(t.Context(), "alter table events_1 disable trigger user")
	require.NoError(t, err)
	_, err = from.store.Pool().Exec(t.Context(), "update events set data = $1 where position = $2", data, victim.Position)
	require.NoError(t, err)
	file, _ := from.exportLog(t)
	_, err = to.take(file)
	require.ErrorContains(t, err, fmt.Sprintf("event %d does not say what the log was committed to", victim.Position))
	require.Empty(t, to.events(t))
	var out bytes.Buffer
	_, err = from.source().ExportAccount(t.Context(), key, ada.account, transfer.AccountOptions{}, &out)
	require.ErrorContains(t, err, fmt.Sprintf("event %d", victim.Position))
}

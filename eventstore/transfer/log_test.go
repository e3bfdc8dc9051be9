package transfer_test

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/archive"
	"github.com/voltrun/voltrun/eventstore/transfer"
)

func TestAWholeLogIsTheSameWhereItIsImported(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 500), newInstance(t, 2, 2000)
	ada := from.live(t, "ada@example.com", 100)
	erased := from.live(t, "bob@example.com", 5)
	require.NoError(t, from.store.Erase(t.Context(), erased.account))
	from.archiveLines(t)
	grace := from.live(t, "grace@example.com", 3)
	waiting := from.request(t, grace.account, grace.function)
	_, err := from.store.Pool().Exec(t.Context(), `insert into checkpoints (consumer, topic, position)
		values ('executor', 'execution.requested', 300), ('projection.keys', '$all', 400)`)
	require.NoError(t, err)

	var sealed string // what says so is taken along
	require.NoError(t, from.store.Pool().QueryRow(t.Context(), "select c::text from checkpoints c where consumer = 'sealed'").Scan(&sealed))

	file, exported := from.exportLog(t)
	imported, err := to.take(file)
	require.NoError(t, err)
	require.Equal(t, from.events(t), to.events(t))
	require.Equal(t, exported.Events, imported.Events)
	require.Equal(t, len(from.events(t)), imported.Events)
	require.Equal(t, exported.SHA256, imported.SHA256)
	require.Positive(t, imported.Erased)
	require.Positive(t, imported.Archived)
	for _, table := range []string{"streams", "head", "archives"} {
		require.Equal(t, from.rows(t, table), to.rows(t, table), table)
	}
	require.Equal(t, []string{"(executor,execution.requested,300)", sealed}, to.rows(t, "checkpoints"))

	require.NoError(t, os.CopyFS(to.dir+"/copy", os.DirFS(from.dir)))
	archived := archive.Open(to.store.Pool(), to.dir+"/copy")
	defer archived.Close()
	for _, e := range to.events(t) {
		if e.Data == nil {
			e.Data, err = archived.Payload(t.Context(), e.Position)
			require.NoError(t, err)
			_, err = to.codec.Decode(t.Context(), e.NewEvent)
			require.NoError(t, err)
		}
	}
	to.requireLife(t, grace)
	attempt, err := to.ClaimExecution.Handle(t.Context(), waiting, uuid.New())
	require.NoError(t, err, "what was waiting goes on")
	require.Equal(t, `{"secret":"canary"}`, string(attempt.Execution.Input))
	_, err = to.take(file)
	require.ErrorContains(t, err, "the log here has events already")
	_ = ada
}

// rows are a table's rows as text.
func (i instance) rows(t *testing.T, table string) (rows []string) {
	t.Helper()
	require.NoError(t, i.store.Pool().QueryRow(t.Context(), "select array_agg(t::text order by t::text) from "+table+" t").Scan(&rows))
	return rows
}

func TestAWholeLogIsNotImportedIntoOneThatHasEvents(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 1000), newInstance(t, 2, 1000)
	from.live(t, "ada@example.com", 1)
	to.live(t, "bob@example.com", 1)
	file, _ := from.exportLog(t)
	before := to.events(t)
	_, err := to.take(file)
	require.ErrorContains(t, err, "the log here has events already")
	require.Equal(t, before, to.events(t))
}

// Neither what accounts said nor what protects it can be read from an export without its key.
func TestAnExportTellsNothingSecret(t *testing.T) {
	t.Parallel()
	from := newInstance(t, 1, 1000)
	ada := from.live(t, "ada@example.com", 3)
	whole, _ := from.exportLog(t)
	var hash []byte
	require.NoError(t, from.store.Pool().QueryRow(t.Context(), "select secret from vault where name = 'password'").Scan(&hash))
	for _, file := range [][]byte{whole, from.exportAccount(t, ada.account, false)} {
		gunzip := exec.Command("zcat")
		gunzip.Stdin = bytes.NewReader(file)
		text, err := gunzip.Output()
		require.NoError(t, err, "any gzip reads it")
		for _, secret := range []string{"canary", "ada@example.com", string(hash), key.String(), ada.key.Key} {
			require.NotContains(t, string(text), secret)
		}
	}
}

func TestAnotherKeyDoesNotOpenAnExport(t *testing.T) {
	t.Parallel()
	from, to := newInstance(t, 1, 1000), newInstance(t, 2, 1000)
	from.live(t, "ada@example.com", 1)
	file, _ := from.exportLog(t)
	_, err := transfer.Import(t.Context(), to.store, to.codec, transfer.NewKey(), bytes.NewReader(file), anyLog)
	require.ErrorContains(t, err, "was exported with another transfer key")
	require.Empty(t, to.events(t))
}

package postgres_test

import (
	"crypto/md5"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/eventstore/postgres"
)

// filledLog is a log of executions. Two hundred ran at a time, so that the events of each stand apart.
type filledLog struct {
	*postgres.Store
	executions int
}

// executionEvents is how many events each execution of a filled log has.
const executionEvents = 5

// stream is the stream of an execution, from 0.
func (l filledLog) stream(execution int) uuid.UUID {
	return uuid.UUID(md5.Sum([]byte(strconv.Itoa(execution)))) // random enough, and SQL can do it
}

const fillEvents = `
	insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, correlation_id,
		causation_id, recorded_at, commitment, data)
	select position, md5(execution::text)::uuid, version, gen_random_uuid(),
		(array['execution.requested', 'execution.started', 'execution.log_line', 'execution.log_line', 'execution.completed'])[version],
		1, $2, 'user', $3, $4, $5, now(), $6, $7
	from (
		select position, (position - 1) / 1000 * 200 + (position - 1) % 200 as execution, (position - 1) % 1000 / 200 + 1 as version
		from generate_series(1, $1::int) position
	) placed
	order by position`

// fill writes so many events into a new database past the appends: a million of those would take too long.
func fill(b *testing.B, dsn string, events int) filledLog {
	b.Helper()
	log := filledLog{openStore(b, dsn), events / executionEvents}
	conn := connect(b, dsn)
	_, err := conn.Exec(b.Context(), "select add_events_partition(1000000)") // the first one is there
	require.NoError(b, err)
	m := benchMetadata
	_, err = conn.Exec(b.Context(), fillEvents, events, m.AccountID, m.Actor.ID, m.CorrelationID, m.CausationID, benchCommitment[:], benchData)
	require.NoError(b, err)
	for _, statement := range []string{
		"insert into streams (stream_id, version, first_position) select stream_id, count(*), min(position) from events group by stream_id",
		"update head set position = (select max(position) from events), recorded_at = now()",
		"vacuum analyze",
	} {
		_, err := conn.Exec(b.Context(), statement)
		require.NoError(b, err)
	}
	return log
}

// newDatabase makes a database on the server that dsn leads to.
func newDatabase(b *testing.B, dsn, name string) string {
	b.Helper()
	_, err := connect(b, dsn).Exec(b.Context(), "create database "+name)
	require.NoError(b, err)
	return fmt.Sprintf("%s dbname=%s", dsn, name)
}

package projectionstest

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// Filling is what Fill puts into a log: executions of ten events each, with seven lines printed, of accounts in turns.
type Filling struct {
	Account  uuid.UUID // whose every Share-th execution is
	Share    int
	Function uuid.UUID // that all of them run
	Events   int       // a multiple of ten
	Line     int       // bytes of a printed line
}

// Fill appends executions to a log as if they had been recorded, far faster than commands can. It must not run beside
// other appends. Payloads are in the plain form, which is read like any other.
func Fill(t testing.TB, pool *pgxpool.Pool, f Filling) {
	t.Helper()
	ctx := context.Background()
	require.Zero(t, f.Events%10)
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, statement := range []string{addPartitions, fillEvents, fillStreams} {
			args := []any{f.Events}
			if statement == fillEvents {
				args = append(args, f.Account, f.Share, f.Function, f.Line)
			}
			if _, err := tx.Exec(ctx, statement, args...); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `update head set position = position + $1, recorded_at = greatest(recorded_at, now()) + $1 * interval '1 microsecond'`, f.Events)
		return err
	})
	require.NoError(t, err)
	_, err = pool.Exec(ctx, "analyze events, streams")
	require.NoError(t, err)
	_, err = pool.Exec(ctx, "notify voltrun_events") // whoever follows the log need not find out by itself
	require.NoError(t, err)
}

const addPartitions = `select add_events_partition(1000000) from head, (select max(upto_position) as upto from partitions) last,
	generate_series(last.upto, head.position + $1, 1000000)`

const fillEvents = `
	insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id,
	                    correlation_id, causation_id, recorded_at, commitment, data)
	select position, stream, place + 1, gen_random_uuid(), type, 1, account, case place when 0 then 'user' else 'worker' end,
	       case place when 0 then account else function end, stream, stream, recorded_at, sha256(salt || content), '\x00'::bytea || salt || content
	from (
		select head.position + n as position, greatest(head.recorded_at, now()) + n * interval '1 microsecond' as recorded_at,
		       $4::uuid as function, (n - 1) % 10 as place, uuid_send(gen_random_uuid()) as salt,
		       md5('execution ' || head.position + (n - 1) / 10 * 10)::uuid as stream,
		       case when (n - 1) / 10 % $3::int = 0 then $2::uuid else md5('account ' || (n - 1) / 10 % $3::int)::uuid end as account
		from head, generate_series(1, $1::int) n
	) numbered, lateral (
		select case place when 0 then 'execution.requested' when 1 then 'execution.started' when 9 then 'execution.completed'
		           else 'execution.log_line' end as type,
		       convert_to(case place
		           when 0 then format('{"execution_id":"%s","account_id":"%s","function_id":"%s","function_version":1,'
		               '"function_name":"filled","runtime":"nodejs","input":{}}', stream, account, function)
		           when 1 then format('{"worker_id":"%s"}', function)
		           when 9 then '{"output":1,"duration_ms":12,"memory_used":40}'
		           else format('{"stream":"stdout","text":"%s","at":"2026-11-23T12:00:00Z"}', repeat('x', $5::int)) end, 'UTF8') as content
	) said
	order by position`

const fillStreams = `
	insert into streams (stream_id, version, first_position)
	select stream_id, count(*), min(events.position) from events, head
	where events.position > head.position and events.position <= head.position + $1 group by stream_id`

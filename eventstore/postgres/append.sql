-- One batch of appends. Runs after pg_advisory_xact_lock in the same implicit transaction, so its snapshot is newer than
-- every earlier append and nothing can change under it.
--   $1..$4   writes:  append (which append of the batch), stream_id, expected version (-1: any), number of events (0: a guard)
--   $5..$18  events:  write (index into the writes, from 1), place within the write (from 1), and the event's columns
--   $19      the channel on which listeners hear of the new head
-- Answers one row a write: the stream's version before, whether its append was accepted, and the head afterwards.
with found as materialized (
    -- Not a join: planned while the table is small, it would go on reading the whole of it when it is large.
    select r.*, coalesce((select s.version from streams s where s.stream_id = r.stream_id), 0) as version
    from unnest($1::int[], $2::uuid[], $3::int[], $4::int[]) with ordinality as r (append, stream_id, expected, events, write)
), refused as materialized (
    select distinct append from found where expected >= 0 and expected <> version
), judged as materialized (
    -- upto: how many events of accepted appends there are up to the end of this write
    select j.*, sum(case when accepted then events else 0 end) over (order by write) as upto
    from (select f.*, not exists (select from refused r where r.append = f.append) as accepted from found f) j
), layout as materialized (
    -- The writes as arrays, in which an event finds its own. A join would compare each event with each write: Postgres
    -- takes both for few, because it plans without knowing their number.
    select array_agg(stream_id) as stream_id, array_agg(version) as version, array_agg(accepted) as accepted,
           array_agg(upto - events) as before, max(upto) as total
    from (select * from judged order by write) ordered
), moved_head as (
    update head
    set position = position + total,
        -- Time never goes backwards along positions, whatever the clock does.
        recorded_at = greatest(recorded_at, clock_timestamp())
    from layout where total > 0
    returning position, position - total as before, recorded_at
), new_streams as (
    -- Most appends begin a stream, and a plain insert costs half of one that is prepared for a conflict.
    insert into streams (stream_id, version, first_position)
    select j.stream_id, j.events, h.before + j.upto - j.events + 1
    from moved_head h, judged j where j.accepted and j.version = 0 and j.events > 0
), moved_streams as (
    -- Not an update that joins, see above. All of these exist, so that nothing is inserted.
    insert into streams (stream_id, version, first_position)
    select j.stream_id, j.version + j.events, 0
    from judged j where j.accepted and j.version > 0 and j.events > 0
    on conflict (stream_id) do update set version = excluded.version
), written as (
    insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, actor_prefix,
                        correlation_id, causation_id, recorded_at, commitment, headers, data)
    select h.before + l.before[e.write] + e.place, l.stream_id[e.write], l.version[e.write] + e.place, e.id, e.type, e.schema_version,
           e.account_id, e.actor_kind, e.actor_id, e.actor_prefix, e.correlation_id, e.causation_id, h.recorded_at, e.commitment,
           e.headers, e.data
    from moved_head h, layout l,
        unnest($5::int[], $6::int[], $7::uuid[], $8::text[], $9::smallint[], $10::uuid[], $11::text[], $12::uuid[], $13::text[],
               $14::uuid[], $15::uuid[], $16::bytea[], $17::bytea[], $18::bytea[])
            with ordinality as e (write, place, id, type, schema_version, account_id, actor_kind, actor_id, actor_prefix,
                                  correlation_id, causation_id, commitment, headers, data, ord)
    where l.accepted[e.write]
    order by e.ord
), announced as materialized (
    select position, pg_notify($19::text, position::text) from moved_head
)
select j.version, j.accepted, coalesce(a.position, 0)
from judged j left join announced a on true
order by j.write

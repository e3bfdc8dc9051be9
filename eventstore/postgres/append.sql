-- One batch of appends. Runs after pg_advisory_xact_lock in the same implicit transaction, so its snapshot is newer than
-- every earlier append and nothing can change under it.
--   $1..$4   writes:  append (which append of the batch), stream_id, expected version (-1: any), number of events
--   $5..$16  events:  write (index into the writes, from 1), place within the write (from 1), and the event's columns
-- Answers one row a write: the stream's version before, whether its append was accepted, and the head afterwards.
with requested as materialized (
    select * from unnest($1::int[], $2::uuid[], $3::int[], $4::int[])
        with ordinality as r (append, stream_id, expected, events, write)
), found as materialized (
    select r.*, coalesce(s.version, 0) as version
    from requested r left join streams s using (stream_id)
), refused as materialized (
    select distinct append from found where expected >= 0 and expected <> version
), accepted as materialized (
    select f.* from found f where not exists (select from refused r where r.append = f.append)
), moved_streams as (
    insert into streams (stream_id, version)
    select stream_id, version + events from accepted
    on conflict (stream_id) do update set version = excluded.version
), numbered as materialized (
    select e.*, a.stream_id, a.version + e.place as version, row_number() over (order by e.ord) as n
    from unnest($5::int[], $6::int[], $7::uuid[], $8::text[], $9::smallint[], $10::uuid[], $11::text[], $12::uuid[],
                $13::uuid[], $14::uuid[], $15::bytea[], $16::bytea[])
        with ordinality as e (write, place, id, type, schema_version, account_id, actor_kind, actor_id,
                              correlation_id, causation_id, headers, data, ord)
    join accepted a using (write)
), moved_head as (
    update head
    set position = position + (select count(*) from numbered),
        -- Time never goes backwards along positions, whatever the clock does.
        recorded_at = greatest(recorded_at, clock_timestamp())
    where exists (select from numbered)
    returning position, recorded_at
), written as (
    insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id,
                        correlation_id, causation_id, recorded_at, headers, data)
    select h.position - (select count(*) from numbered) + e.n, e.stream_id, e.version, e.id, e.type, e.schema_version,
           e.account_id, e.actor_kind, e.actor_id, e.correlation_id, e.causation_id, h.recorded_at, e.headers, e.data
    from moved_head h, numbered e
    order by e.n
)
select f.version, not exists (select from refused r where r.append = f.append), coalesce(h.position, 0)
from found f left join moved_head h on true
order by f.write

-- One batch of appends. Runs after pg_advisory_xact_lock in the same implicit transaction, so its snapshot is newer than
-- every earlier append and nothing can change under it.
--   $1..$4   writes:  append (which append of the batch), stream_id, expected version (-1: any), number of events
--   $5..$18  events:  write (index into the writes, from 1), place within the write (from 1), and the event's columns
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
    -- upto: how many events of the batch there are up to the end of this write
    select f.*, sum(events) over (order by write) as upto
    from found f where not exists (select from refused r where r.append = f.append)
), moved_head as (
    update head
    set position = position + (select max(upto) from accepted),
        -- Time never goes backwards along positions, whatever the clock does.
        recorded_at = greatest(recorded_at, clock_timestamp())
    where exists (select from accepted)
    returning position, position - (select max(upto) from accepted) as before, recorded_at
), moved_streams as (
    insert into streams (stream_id, version, first_position)
    select a.stream_id, a.version + a.events, h.before + a.upto - a.events + 1
    from moved_head h, accepted a
    on conflict (stream_id) do update set version = excluded.version
), written as (
    insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, actor_prefix,
                        correlation_id, causation_id, recorded_at, commitment, headers, data)
    select h.before + a.upto - a.events + e.place, a.stream_id, a.version + e.place, e.id, e.type, e.schema_version,
           e.account_id, e.actor_kind, e.actor_id, e.actor_prefix, e.correlation_id, e.causation_id, h.recorded_at, e.commitment,
           e.headers, e.data
    from moved_head h,
        unnest($5::int[], $6::int[], $7::uuid[], $8::text[], $9::smallint[], $10::uuid[], $11::text[], $12::uuid[], $13::text[],
               $14::uuid[], $15::uuid[], $16::bytea[], $17::bytea[], $18::bytea[])
            with ordinality as e (write, place, id, type, schema_version, account_id, actor_kind, actor_id, actor_prefix,
                                  correlation_id, causation_id, commitment, headers, data, ord)
        join accepted a using (write)
    order by e.ord
)
select f.version, not exists (select from refused r where r.append = f.append), coalesce(h.position, 0)
from found f left join moved_head h on true
order by f.write

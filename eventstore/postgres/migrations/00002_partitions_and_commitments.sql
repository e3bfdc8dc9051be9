-- +goose Up

-- The log grows for ever, so it is cut into partitions by position. A partition is made before the head reaches it (see
-- partitions.go), and has indexes of its own: the unique one that stands behind the expected versions cannot span them.
alter table events rename to events_before;
alter index events_pkey rename to events_before_pkey;
drop index events_requested;

create table events (
    position       bigint      not null primary key,
    stream_id      uuid        not null,
    version        integer     not null,
    id             uuid        not null,
    type           text        not null,
    schema_version smallint    not null,
    account_id     uuid,
    actor_kind     text        not null,
    actor_id       uuid,
    actor_prefix   text,                 -- what is no secret of the API key that was used
    correlation_id uuid,
    causation_id   uuid,
    recorded_at    timestamptz not null,
    commitment     bytea       not null, -- to the payload; it stays when the payload is erased or archived
    headers        bytea,
    data           bytea                 -- the payload; null once it is in the archive
) partition by range (position);

-- The partitions, from the first position to the one before upto_position. The table of each is events_<from_position>.
create table partitions (
    from_position bigint not null primary key,
    upto_position bigint not null
);

create trigger events_are_append_only before update or delete on events
    for each row execute function refuse_change_of_history();
create trigger events_are_never_truncated before truncate on events
    for each statement execute function refuse_change_of_history();

-- Makes the next partition, of so many positions, and returns where it ends. The caller holds the lock under which
-- appends are ordered. The table is filled with nothing but constraints before it is attached, so that readers and
-- writers of the log are not stopped.
-- +goose StatementBegin
create function add_events_partition(positions bigint) returns bigint language plpgsql as $$
declare
    first bigint;
    upto  bigint;
    name  text;
begin
    select coalesce(max(upto_position), 1) into first from partitions;
    upto := first + positions;
    name := 'events_' || first;
    execute format('create table %I (like events including defaults, constraint in_range check (position >= %s and position < %s))',
        name, first, upto);
    execute format('alter table %I add primary key (position)', name);
    -- The safety net under the expected versions, and the way to read one stream.
    execute format('create unique index %I on %I (stream_id, version)', name || '_stream', name);
    -- The way to read an account's history.
    execute format('create index %I on %I (account_id, position)', name || '_account', name);
    -- The same for events of some types, those that executions produce in masses left out. It leads by type: the functions
    -- that an account had are found by their creations, which must not be looked for among all that it has run.
    execute format('create index %I on %I (account_id, type, position) where type <> all (%L::text[])', name || '_milestones', name,
        '{execution.started,execution.log_line,execution.completed,execution.failed,key.used}');
    -- The executor's own way. Without it, every wake-up would scan the log lines since the last request.
    execute format('create index %I on %I (position) where type = %L', name || '_requested', name, 'execution.requested');
    execute format('create trigger events_are_never_truncated before truncate on %I
        for each statement execute function refuse_change_of_history()', name);
    execute format('alter table events attach partition %I for values from (%s) to (%s)', name, first, upto);
    execute format('alter table %I drop constraint in_range', name); -- it has spared the attachment a look at the table
    insert into partitions (from_position, upto_position) values (first, upto);
    return upto;
end
$$;
-- +goose StatementEnd

select add_events_partition((select (position / 1000000 + 1) * 1000000 from head));

-- What was recorded before becomes a payload of today's form: a zero byte, sixteen random bytes, and the JSON.
insert into events (position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, correlation_id,
                    causation_id, recorded_at, headers, data, commitment)
select position, stream_id, version, id, type, schema_version, account_id, actor_kind, actor_id, correlation_id,
       causation_id, recorded_at, headers, '\x00'::bytea || salted, sha256(salted)
from (select *, uuid_send(gen_random_uuid()) || data as salted from events_before offset 0) before;

drop table events_before;

-- Where a stream begins, so that reading it does not look into the partitions from before.
alter table streams add first_position bigint;
update streams s set first_position = e.first
from (select stream_id, min(position) as first from events group by stream_id) e
where e.stream_id = s.stream_id;
alter table streams alter first_position set not null;

-- The newest position that was recorded at or before a moment: time never goes backwards along positions.
-- +goose StatementBegin
create function position_at(moment timestamptz) returns bigint language plpgsql stable as $$
declare
    low    bigint := 0; -- recorded by then
    high   bigint;      -- nothing behind it was
    middle bigint;
    at     timestamptz;
begin
    select position into high from head;
    while low < high loop
        middle := (low + high + 1) / 2;
        select recorded_at into at from events where position = middle;
        if at <= moment then
            low := middle;
        else
            high := middle - 1;
        end if;
    end loop;
    return low;
end
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
do $$ begin raise exception 'payloads that are sealed cannot be read by an older version of VoltRun; restore a backup instead'; end $$;
-- +goose StatementEnd

-- +goose Up

-- The way to read an account's milestones leads by their type now. The functions that an account had at some time are
-- found by their creations, and those must not be looked for among all the executions that it requested.
-- +goose StatementBegin
create or replace function add_events_partition(positions bigint) returns bigint language plpgsql as $$
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
    -- The same for events of some types, those that executions produce in masses left out.
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

-- +goose StatementBegin
do $$
declare
    name text;
begin
    for name in select 'events_' || from_position from partitions loop
        execute format('drop index %I', name || '_milestones');
        execute format('create index %I on %I (account_id, type, position) where type <> all (%L::text[])', name || '_milestones', name,
            '{execution.started,execution.log_line,execution.completed,execution.failed,key.used}');
    end loop;
end
$$;
-- +goose StatementEnd

-- How many events a stream had when the log ended at a position.
-- +goose StatementBegin
create function stream_version_at(stream uuid, upto bigint) returns integer language plpgsql stable as $$
declare
    low    integer := 0; -- recorded by then
    high   integer;      -- nothing behind it was
    middle integer;
    first  bigint;
    at     bigint;
begin
    select version, first_position into high, first from streams where stream_id = stream;
    middle := high; -- most streams have been complete for long
    while low < high loop
        select position into at from events where stream_id = stream and version = middle and position >= first;
        if at <= upto then
            low := middle;
        else
            high := middle - 1;
        end if;
        middle := (low + high + 1) / 2;
    end loop;
    return low;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function stream_version_at; -- the index serves older versions as it is

-- +goose Up

-- The files of the archive, see eventstore/archive. A row is made before its file is; the file is whole and durable when
-- there is the fact, and what it holds has left the log when there is stripped_at.
create table archives (
    file          text    not null primary key,
    from_position bigint  not null,
    to_position   bigint  not null, -- included, as in the file's name
    complete      boolean not null, -- with this file, nothing is left in the partition that could be archived
    fact          json,             -- the content of its log.archived
    stripped_at   timestamptz
);

-- The two halves of making a table for a partition: between them it can be filled without the cost of its indexes. Both
-- work in the current schema.
-- +goose StatementBegin
create function create_events_table(first bigint, upto bigint) returns text language plpgsql as $$
declare
    name text := 'events_' || first;
begin
    execute format('create table %I (like events including defaults, check (position >= %s and position < %s))', name, first, upto);
    return name;
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
create function index_events_table(first bigint) returns void language plpgsql as $$
declare
    name text := 'events_' || first;
begin
    execute format('alter table %I add primary key (position)', name);
    -- The safety net under the expected versions, and the way to read one stream.
    execute format('create unique index %I on %I (stream_id, version)', name || '_stream', name);
    -- The way to read an account's history.
    execute format('create index %I on %I (account_id, position)', name || '_account', name);
    -- The same without the events that executions produce in masses: the way to read its functions, keys and requests.
    execute format('create index %I on %I (account_id, position) where type <> all (%L::text[])', name || '_milestones', name,
        '{execution.started,execution.log_line,execution.completed,execution.failed,key.used}');
    -- The executor's own way. Without it, every wake-up would scan the log lines since the last request.
    execute format('create index %I on %I (position) where type = %L', name || '_requested', name, 'execution.requested');
    execute format('create trigger events_are_never_truncated before truncate on %I
        for each statement execute function refuse_change_of_history()', name);
end
$$;
-- +goose StatementEnd

-- The same as before, by these halves.
-- +goose StatementBegin
create or replace function add_events_partition(positions bigint) returns bigint language plpgsql as $$
declare
    first bigint;
    upto  bigint;
    name  text;
begin
    select coalesce(max(upto_position), 1) into first from partitions;
    upto := first + positions;
    name := create_events_table(first, upto);
    perform index_events_table(first);
    execute format('alter table events attach partition %I for values from (%s) to (%s)', name, first, upto);
    insert into partitions (from_position, upto_position) values (first, upto);
    return upto;
end
$$;
-- +goose StatementEnd

-- Gives a log without events partitions of this size from its first one on. The caller holds the lock under which appends
-- are ordered.
-- +goose StatementBegin
create function fit_empty_log(positions bigint) returns void language plpgsql as $$
declare
    first bigint;
begin
    if (select position from head) > 0
        or not exists (select from partitions where upto_position - from_position <> positions) then
        return;
    end if;
    for first in select from_position from partitions loop
        execute format('drop table %I', 'events_' || first);
    end loop;
    delete from partitions;
    perform add_events_partition(positions);
end
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
do $$ begin raise exception 'payloads that are in the archive cannot be read by an older version of VoltRun; restore a backup instead'; end $$;
-- +goose StatementEnd

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

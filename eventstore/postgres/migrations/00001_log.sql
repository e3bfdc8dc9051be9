-- +goose Up

-- The log. Positions are dense; they are given out under the lock of the appending statement (see append.sql).
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
    correlation_id uuid,
    causation_id   uuid,
    recorded_at    timestamptz not null,
    headers        bytea,
    data           bytea       not null,
    -- The safety net under the expected versions, and the way to read one stream.
    unique (stream_id, version)
);

-- The executor's own way through the log. Without it, every wake-up would scan the log lines since the last request.
create index events_requested on events (position) where type = 'execution.requested';

-- How many events each stream has: the authority for expected versions.
create table streams (
    stream_id uuid    not null primary key,
    version   integer not null
) with (fillfactor = 80);

-- The newest position and its time, in one row that every append moves.
create table head (
    id          boolean     not null primary key default true check (id),
    position    bigint      not null,
    recorded_at timestamptz not null
) with (fillfactor = 10);

insert into head (position, recorded_at) values (0, '-infinity');

-- +goose StatementBegin
create function refuse_change_of_history() returns trigger language plpgsql as $$
begin
    raise exception 'events are append-only: % is refused', tg_op;
end
$$;
-- +goose StatementEnd

create trigger events_are_append_only before update or delete on events
    for each row execute function refuse_change_of_history();
create trigger events_are_never_truncated before truncate on events
    for each statement execute function refuse_change_of_history();

-- How far each consumer of the log has come.
create table checkpoints (
    consumer text   not null,
    topic    text   not null,
    position bigint not null,
    primary key (consumer, topic)
) with (fillfactor = 50);

-- What must be forgettable and therefore never enters the log.
create table vault (
    owner  uuid  not null,
    name   text  not null,
    secret bytea not null,
    primary key (owner, name)
);

-- +goose Down
drop table vault, checkpoints, head, streams, events;
drop function refuse_change_of_history;

-- +goose Up

-- When an event happened: before it was recorded, if it was imported from another log. Along the positions of an account that
-- was imported this goes back and forth, since what belongs together was imported together. It never goes back along a
-- stream, nor along the beginnings of an account's executions, functions or keys.
create function happened_at(headers bytea, recorded_at timestamptz) returns timestamptz language sql stable as $$
    select coalesce((convert_from(headers, 'UTF8')::json ->> 'voltrun.recorded_at')::timestamptz, recorded_at)
$$;

-- The position at which the import of an account ended, when that was after a moment; otherwise 0. What had happened to it by
-- that moment did so elsewhere, stands up to this position, and is not found by position_at.
-- +goose StatementBegin
create function imported_after(account uuid, moment timestamptz) returns bigint language plpgsql stable as $$
declare
    first bigint;
    ended timestamptz;
begin
    select first_position into first from streams where stream_id = account;
    select recorded_at into ended from events
    where stream_id = account and position >= first and type = 'account.imported' and recorded_at > moment
    order by version desc limit 1;
    return case when ended is null then 0 else position_at(ended) end; -- others of the last append may stand behind the fact
end
$$;
-- +goose StatementEnd

-- How many events of a stream had happened by a moment.
-- +goose StatementBegin
create function stream_version_by(stream uuid, moment timestamptz) returns integer language plpgsql stable as $$
declare
    low    integer := 0; -- happened by then
    high   integer;      -- nothing behind it had
    middle integer;
    first  bigint;
    at     timestamptz;
begin
    select version, first_position into high, first from streams where stream_id = stream;
    while low < high loop
        middle := (low + high + 1) / 2;
        select happened_at(headers, recorded_at) into at from events where stream_id = stream and version = middle and position >= first;
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

-- A position up to which all of an account's events of a type had happened by a moment, and behind which, up to another
-- position, none had. The type is one that begins a stream; the conditions are those that its index asks for, see
-- projections.createdQuery.
-- +goose StatementBegin
create function begun_by(account uuid, beginning text, upto bigint, moment timestamptz) returns bigint language plpgsql stable as $$
declare
    low    bigint := 0;
    high   bigint := upto;
    middle bigint;
    newest bigint;
    at     timestamptz;
begin
    while low < high loop
        middle := (low + high + 1) / 2;
        select position, happened_at(headers, recorded_at) into newest, at from events
        where account_id = any(array[account]) and type = beginning and position > low and position <= middle
          and type <> all ('{execution.started,execution.log_line,execution.completed,execution.failed,key.used}'::text[])
        order by account_id desc, position desc limit 1;
        if newest is null or at <= moment then
            low := middle;
        else
            high := newest - 1;
        end if;
    end loop;
    return low;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function begun_by;
drop function stream_version_by;
drop function imported_after;
drop function happened_at;

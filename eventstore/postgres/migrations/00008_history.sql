-- +goose Up

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
drop function stream_version_at;

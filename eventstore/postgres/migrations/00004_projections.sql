-- +goose Up

-- The read models: which version of its projection keeps each, and which one has built it from position 1 (0: several
-- versions have written to it, and it is to be rebuilt). Read models were known here before this was a migration.
create table if not exists projections (
    name    text    not null primary key,
    version integer not null
);
alter table projections
    add column built  integer not null default 0,
    add column tables text[]  not null default '{}';
update projections set built = version;

-- +goose Down
drop table projections;

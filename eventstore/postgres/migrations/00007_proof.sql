-- +goose Up

-- The proof of history: a Merkle tree (RFC 6962) with a leaf an event, and its signed heads. Nothing here is the truth;
-- it can be computed from the events and is checked against them.

-- The hashes of the tree, 256 of one level in a row: those of the leaves on level 0, those of their subtrees of 256
-- leaves on level 1, and so on. The last row of each level grows, the others never change.
create table tiles (
    level  smallint not null,
    index  bigint   not null,
    hashes bytea    not null,
    primary key (level, index)
);
alter table tiles alter column hashes set storage external; -- hashes cannot be compressed

-- What was signed: the tree's root when it had so many leaves, as a signed note (C2SP tlog-checkpoint).
create table heads (
    size      bigint      not null primary key,
    root      bytea       not null,
    note      text        not null,
    signed_at timestamptz not null
);

-- +goose Down
drop table heads, tiles;

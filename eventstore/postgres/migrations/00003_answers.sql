-- +goose Up

-- What was answered to requests with an Idempotency-Key, sealed, for the case that they are sent again.
create table answers (
    id         uuid        not null primary key,
    account_id uuid,
    answer     bytea       not null,
    kept_until timestamptz not null
);

-- To prune those whose time is over, and to forget those of an account.
create index answers_kept_until on answers (kept_until);
create index answers_account on answers (account_id);

-- +goose Down
drop table answers;

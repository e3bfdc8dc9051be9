-- +goose Up

-- The planner's statistics hold samples of values, and keep them when the rows are gone. Nobody asks for a secret by its
-- value, so nothing is lost without them.
alter table vault alter column secret set statistics 0;
alter table answers alter column answer set statistics 0;

-- +goose Down
alter table vault alter column secret set statistics -1;
alter table answers alter column answer set statistics -1;

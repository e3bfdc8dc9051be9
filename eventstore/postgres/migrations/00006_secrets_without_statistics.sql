-- +goose Up

-- The planner's statistics hold samples of values, and keep them when the rows are gone. Nobody asks for a secret by its
-- value, so nothing is lost without them. The vault's column is made anew, because statistics that there are would stay.
alter table vault rename column secret to sampled;
alter table vault add column secret bytea;
update vault set secret = sampled;
alter table vault drop column sampled;
alter table vault alter column secret set not null;
alter table vault alter column secret set statistics 0;
alter table answers alter column answer set statistics 0;

-- +goose Down
alter table vault alter column secret set statistics -1;
alter table answers alter column answer set statistics -1;

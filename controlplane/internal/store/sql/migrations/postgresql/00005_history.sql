-- +goose Up
ALTER TABLE meta ADD COLUMN oldest BIGINT NOT NULL DEFAULT 1;
ALTER TABLE meta ADD COLUMN purges BIGINT NOT NULL DEFAULT 0;
ALTER TABLE revisions ADD COLUMN purged_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE revision_changes ADD COLUMN before_hash BYTEA;
ALTER TABLE revision_changes ADD COLUMN after_hash BYTEA;

-- +goose Down
ALTER TABLE revision_changes DROP COLUMN after_hash;
ALTER TABLE revision_changes DROP COLUMN before_hash;
ALTER TABLE revisions DROP COLUMN purged_count;
ALTER TABLE meta DROP COLUMN purges;
ALTER TABLE meta DROP COLUMN oldest;
